"""The tests of fxgrow."""
