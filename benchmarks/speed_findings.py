"""What the tables of grow_speed.py say of the aims, and what stops them. Figures of docs/speed.md, written by hand."""

FINDINGS = """\
## What was aimed at, and what stops it

- **A call**: the aims were 40 µs for each of recording, inference and check, and 1.3 times a plain trace. Recording
  alone, without the copies that run and what is compared of their state, takes 25 to 30 µs. Tried and left: one run
  for inference and the trace's check (under 10 %, and it lost literals), one recording for both modes (wrong
  students), one copy of the tree for both modes (a run may leave hooks and tables behind, and looking for these costs
  what the copy does). Tried and kept: results of meta kernels are remembered between runs, and trees are walked once
  where nothing changes them (66 walks became 40; those of a ViT are of the two modules of an attention each). Clones
  of the tree are six: of the model on meta, in each mode, for the trace, for the check and for the student. What is
  left is spread over functions of which none takes 5 %. Beside a plain FX trace, which computes nothing, ours runs
  each operator for the value of its proxy, at the price of a recording, and notes guards and source lines;
  EfficientNet is traced in both modes, since its code asks for the mode. `widths()` traces as well: numbers that a
  graph states grow and those that code spells out stay, so that without the trace other widths would be found.
- **The analysis**: the aims were the time of torch_pruning's `build_dependency` on ResNets, ViT, ConvNeXt and
  DenseNet, and twice that on mobile nets. It is reached on ViT (.79, and .44 in the run before). torch's own part
  (the table above of what it cannot go below) answers no question, and takes .29 of `build_dependency` on ResNet-50
  and 1.2 times it on mobilenet_v3_large. Between that and `widths` lie the digests and keys of two recordings, the
  layouts of one inference, the comparison of the trace with the model, guards, names, and three tries of inputs of
  other ranks.
- **The whole**: the aim was twice a cold copy of the student. Filling takes 1.2 of such copies on ResNet-50, so that
  all else would have to be done in .8; torch's own part is .3 and the copies and draws of filling .9. On the median
  of the torchvision families the aim was 4, and the table against torch_pruning says 5.7. Small weights are the
  reason: there the analysis alone takes longer than a copy. Against torch_pruning's whole pruning the aim was 1 on
  the median, and the table says 1.6, for the same reason: on nets of many small layers (mobile nets, GoogLeNet) its
  pruning in place makes no new model. Other jobs ran meanwhile; in a quiet run on another day the medians were 4.9
  and 1.5. Tried and left: one run for inference and check (above), and `__torch_dispatch__` without the function that
  torch puts around it (.211 and .212 s for the widths of mobilenet_v3_large).
- **Filling**: the aim was 1.4 clones. ViT-B has 1.08 to 1.46, ResNet-50 1.43 to 1.71, the decoder in bfloat16 1.21 to
  2.45, cold (this table is of a later day, by `grow_speed.py --only fill`; the decoder's times vary from run to run
  by half, with the kernel's work on new pages: `auto` has 2.45 cold and 1.24 warm here, and had 1.77 and 1.84). Clone
  and draws alone are 1.0 to 1.4, so they do not stop it. What does for ResNet-50 is some 100 µs of Python for each of
  267 tensors, a quarter of a cold clone; with a warm heap, where a clone costs a fifth, it is most. For `split` and
  `even` in bfloat16 it is arithmetic: a third of the entries is multiplied, checked for overflow and subtracted
  twice, each in float32 and back (450 µs for 350,000 entries, which are copied in 22). Tried and kept: a sum in
  bfloat16's own dtype for that check (48 to 21 µs). Tried and left: the arithmetic on a contiguous copy (292 for 447
  µs where rows are 350 long, 281 for 261 where they are 2,048, and 220 for 150 in float32), `add` with a factor for
  `addcmul` (125 for 135 µs), and a hash in operators of torch in place of the generator, which is no faster.
- **By the size of the net**: the aim was 1.2 times the time per node from 300 to 10,000 nodes. It is reached: growing
  takes .94 times on chains, .95 on dense nets and 1.08 on residual ones (1.34, 1.20 and 1.34 before full collections
  of garbage waited until a call is over, and before three places stopped being quadratic), and what looks at a plan
  at most 1.22, `verify` of a residual net (1.15 in the run before; reading a plan took 2.5 times, and the reasons of
  all layers by the square). A dense block is of six layers here; where each layer sees all before it, as many widths
  meet in each as there are layers, and the time grows with that number. The aim for `verify` and `summary` was 1.5
  times `apply` and their forward passes: on residual nets `summary` takes 1.5 and `verify` 2.5 to 3.0, on linear
  layers 2.6 and 2.4, since `apply` is short there, and `summary` tries other ranks. `verify` traces the teacher
  again, runs four models node by node and maps and compares each node's values, which on nets of two channels is all
  Python, and counts FLOPs by torch's counter; `summary` of a student with its teacher analyses both. `verify` took
  4.0 on linear layers while it looked at other sizes of inputs, as a plan does, and copied models twice to count
  FLOPs (the second copy was still made in this run).
- **Models that are run for real**: the aim of five forward passes is missed by all five, from 18 (Faster R-CNN, in
  22.2 s for an aim of 20) and 22 (Swin2SR) to 91 and more (the detectors of transformers). A forward pass of DETR
  makes 1,400 calls in .14 s, and the analysis of a call costs more than the call; 18 such runs are made, in two modes
  at three sizes, of the model, of the trace and of the student; two more traces follow the numbers in code that stays
  a call, a fifth of the whole. Tried and kept: slow calls are remembered, and the other sizes are small ones. With
  the first alone DETR took 38.3 s, and then 12.6 on a quiet day and 17.8 here; a small Faster R-CNN took 89 s for its
  widths at first. Runs on two more sizes and the two traces came in later, for soundness, so that Conditional DETR
  (37.5 s before, 38.0 now) and Faster R-CNN (19.7, 22.2) take what they took. The pages of the zoos list the others
  beyond 20 passes: models of which a forward pass takes .05 s and less, and detectors.
- **Students**: the aims were 1.02 for nets of at least 10 ms and 1.05 for small ones. In docs/student_speed.md one
  row of the larger nets exceeds it beyond the noise, the step of a ViT as a module (1.064). Three more runs of 80
  repeats gave 1.003, 1.000 and 1.037 there, and 1.012, 1.006 and 1.041 as a graph, where the same net by hand once
  more had 1.004, .997 and 1.025 (`student_speed.py --nets "ViT, 48 channels" --backends eager --repeats 80`). All
  with glibc told to keep freed memory. As it is by default, where the heap is given back and taken anew within a
  forward pass, the graph of ResNet-20 takes 1.15 to 1.4 times as long on a CPU, by the order in which it frees
  values, and .95 to .99 as a module. Tried and left: to free values one, two or three statements later (1.02 to 1.22
  there from run to run, and up to 1.17 where the graph had 1.0), and not at all (1.1 to 1.8). Guards are part of all
  these figures.
- **A student of the user's own class**: growing with `output="module"` takes 1.7 times as long as with a graph on the
  median of torchvision's models whose graph takes a second ([zoo.md](zoo.md)), and 15 times at most (Swin3D-T, 26 s
  for 1.7; other jobs ran). Numbers in code that stays a call are followed by runs on other sizes and by two more
  traces. Sizes at which a run said nothing new were run again; now that they are not, Swin3D-T takes 14.4 s, and 1.4
  as a graph.
- **Memory**: the aim was 64 MB beyond the student. It is reached by the default and by means; other methods are
  filled by the same blocks. Where new entries are the mean of the others (`indivisible="average"`,
  `Outputs(new="mean")`), one more copy of the tensor was held until the mean was kept apart: 38 MB for a tensor of 34
  MB, and 5 MB now.
- **The first growth of a process** imports `torch._dynamo`, which takes as long as torch: what it finds in `Tensor`
  it keeps, so it must not be imported while functions of torch are replaced. The first optimizer imports it as well.
- **The suite of tests**: the aim was 6 minutes on two cores. It takes 14 for 9,547 tests, and took 7.7 for 8,300 on a
  faster day and 10 before: most grow a model, which is recorded, traced, inferred and checked in two modes. No test
  takes more than 18 s, and no file more than 4 % (`--durations`). Tried and kept: a sample of cases that covers each
  net, and each entry of several lists of parameters (11,000 more run with `--thorough` alone); processes forked from
  a server that has imported torch and its compiler; tests of one analysis in one process, which pytest 9.2 had
  undone. Tried and left: samples of tests with three cases and more in place of eight (2 % less); other thresholds of
  the garbage collector; one replacement of torch's functions for all runs of an analysis, which is at most 9 % of it
  on the smallest nets; and one process more than there are processors, for the tests that wait (12.7 minutes on that
  day, for 3 % more tests).

## Before and now

Before is the start of this work, on another machine, by the same kinds of ratios. More is checked since: both modes,
what is returned and left behind, state, other ranks and sizes of inputs.

| what | before | now | aim |
|---|---|---|---|
| grow / copy of the student: ResNets | 3.4 to 6.7 (heap not named) | 2.8 and 3.0 cold, 7 warm | 2 |
| grow / copy: mobilenet_v3_large, efficientnet_b0, regnet_y_400mf | 7.7, 10.2, 7.9 | 5.8, 7.3, 6.6 cold | 4, median |
| grow / copy: densenet121, convnext_tiny, vit_b_16 | 9.1, 10.3, 2.9 | 7.1, 3.9, 2.5 cold | 4, median; ViT 2 |
| widths / `build_dependency`: ResNets | 1.0 to 1.4 | 1.4 to 1.7 | 1 |
| widths / `build_dependency`: the three mobile nets above | 6.4, 8.6, 7.0 | 7.0, 8.3, 7.2 | 2 |
| widths / `build_dependency`: densenet121, convnext_tiny, vit_b_16 | 3.3, 2.2, .55 | 3.5, 2.5, .79 | 1 |
| the same on the median | 3.3 | 3.4 | |
| grow / its whole pruning: the three mobile nets | 2.6, 3.3, 2.5 | 3.4, 3.9, 3.3 | |
| the same on the median | 1.4 | 1.6 | 1 |
| recording a call | 105 to 130 µs | 38 to 132 µs | 40 µs |
| inference, check, of a call | not measured | 118 to 238, 46 to 112 µs | 40 µs each |
| trace / a plain `fx.Tracer` | not measured | 3.7 to 11.3 | 1.3 |
| walks through all modules | 66 | 40 (ViT 228) | what is needed |
| clones of the tree | 4 | 6 or 7 | what is needed |
| a small Faster R-CNN, widths | 89 s | the ResNet-50 one at 320 px, grown: 22.2 s (16.5 s when quiet) | 20 s |
| Swin2SR, 12 million parameters | over 9 minutes; 4.9 s with constants mended | 49 s (34 s) | 5 forward passes |
| DETR | 16 or 21 s; 5.0 s with constants mended | 18 s (12.6 s) | 5 forward passes |
| `verify` and `summary` / `apply` | 3 to 4 | 2.5 to 3.0 and 1.5; on linear layers 2.4 and 2.6 | 1.5 |
| `import fxgrow` beyond torch | .43 s | .15 s | .15 s |
| the suite of tests | 7 to 10 minutes | 7.7 to 14 | 6 |

What was slower than before on the detectors is the run of the model and the student on two other sizes, for numbers
that mix sizes and widths, and two more traces of code that stays a call. On MobileNet v3, where other ranks end at the
first convolution, tries of other inputs are 4 % of growing. On linear layers, which take any rank, they are 44 % of
`widths`.
"""
