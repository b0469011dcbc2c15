class Report: pass
