"""The statements of random programs.

In braces: `{u}` and `{v}` are images, `{o}` is the new one, `{n}` the number of a layer, `{c}` a number of channels.
"""

# One image to one of as many channels.
KEEPING = [
    "{o} = {u}.relu()",
    "{o} = torch.tanh({u})",
    "{o} = F.gelu({u})",
    "{o} = {u} * 2 - 1",
    "{o} = -{u}",
    "{o} = {u}.clone().mul_(0.5)",
    "{o} = {u} + {u}.mean((2, 3), keepdim=True)",
    "{o} = F.dropout({u}, 0.0)",
    "{o} = F.max_pool2d({u}, 3, 1, 1)",
    "{o} = F.avg_pool2d({u}, 3, stride=1, padding=1)",
    "{o} = {u}.sigmoid() * {u}",
    "{o} = torch.where({u} > 0, {u}, {u} * 0.1)",
    "{o} = {u}.masked_fill({u} < -1, -1.0)",
    "{o} = {u}.clamp(min=-0.5)",
    "{o} = self.bn{n}({u})",
    "{o} = {u}.flatten(2).view({u}.shape)",
    "{o} = {u}.permute(0, 2, 3, 1).permute(0, 3, 1, 2)",
    "{o} = {u}.reshape({u}.size(0), {u}.size(1), -1).reshape({u}.shape)",
    "{o} = {u}.to(x.dtype)",
    "{o} = {u}.transpose(2, 3)",
    "{o} = torch.stack([{u}, {u}]).sum(0)",
    "{o} = {u}[:, :, :, :].contiguous()",
    "{o} = {u}.expand(x.shape[0], -1, -1, -1)",
    "{o} = self.act({u})",
    "{o} = Doubled.apply({u})",
    "{o} = {u}.flip(2)",
    "{o} = torch.roll({u}, 1, 3)",
    "{o} = {u} / {u}.shape[2]",
    "{o} = {u} * ({u}.shape[1] ** -0.5)",
    "{o} = {u} / len({u})",
    "{o} = {u} * {u}.size(1)",
    "{o} = {u} + {u}.numel() / 1000",
    "{o} = {u} * (1 if {u}.shape[1] > {c} else 2)",
    "{o} = {u} * min({u}.shape[1:])",
    "{o} = {u} * self.c{n}.out_channels / 10",
    "{o} = {u} * float(torch.tensor({u}.shape[1]))",
    "{o} = {u} + torch.ones(1, device=next(self.parameters()).device, dtype={u}.dtype)",
    "{o} = {u} + torch.zeros({u}.shape, device={u}.device, dtype={u}.dtype)",
    "{o} = {u}.to(next(self.parameters()).device)",
    "{o} = {u} + torch.arange({u}.shape[3], device={u}.device)",
    "{o} = {u} * torch.ones_like({u})",
    "{o} = {u} + torch.linspace(0, 1, {u}.shape[1], dtype={u}.dtype).view(1, -1, 1, 1)",
    "{o} = {u} * torch.full(({u}.shape[1], 1, 1), 0.5)",
    "{o} = {u} + torch.eye({u}.shape[2], dtype={u}.dtype)",
    "{o} = {u} if {u}.device.type == 'cpu' else -{u}",
    "{o} = {u} * 3 if {u}.is_meta else {u}",
    "{o} = {u} - {u}.mean(1, keepdim=True)",
    "{o} = {u} + {u}.sum(1, keepdim=True)",
    "{o} = {u}.softmax(1)",
    "{o} = {u} / (1 + {u}.norm(dim=1, keepdim=True))",
    "{o} = {u} * {u}.amax(1, keepdim=True)",
    "{o} = {u}.flip(1)",
    "{o} = {u}.cumsum(1)",
    "{o} = {u}.sort(1).values",
    "{o} = torch.roll({u}, 1, 1)",
    "{o} = {u}.logsumexp(1, keepdim=True) + {u}",
    "{o} = F.layer_norm({u}, {u}.shape[1:])",
    "{o} = F.group_norm({u}, 2)",
    "{o} = F.instance_norm({u})",
    "{o} = F.normalize({u}, dim=1)",
    "{o} = {u} * {u}.var(1, keepdim=True)",
    "{o} = Centred.apply({u})",
    "{o} = {u}[:, torch.arange({u}.shape[1] - 1, -1, -1)]",
    "{o} = {u}[:, [i for i in range({u}.shape[1])]]",
    "{o} = {u} + {u}.argmax(1, keepdim=True)",
    "{o} = {u}.index_select(1, torch.arange({u}.shape[1]))",
    "{o} = {u}.clone(); {o}[:, 0] = 0",
    "{o} = {u}.clone(); {o}[:, :2] *= 2",
    "{o} = {u} * 1; {o} += {u}",
    "{o} = {u}.clone(); {o}.view(-1)[0] = 0",
    "{o} = torch.empty_like({u}); {o}.copy_({u})",
    "{o} = {u}.clone(); {o}[..., 0] = {u}[..., 1]",
    "{o} = torch.zeros_like({u}); {o}[:, ::2] = {u}[:, ::2]",
    "{o} = {u}.clone(); {o}.select(1, {u}.shape[1] - 1).zero_()",
    "if {u}.shape[1] > {c}:\n    {o} = {u} * 2\nelse:\n    {o} = {u}",
    "{o} = {u}\nfor i in range({u}.shape[1] // 4):\n    {o} = {o} * 1.1",
    "{o} = (lambda t: t * self.gain)({u})",
    "{o} = {u} + sum(p.numel() for p in self.c{n}.parameters()) / 100",
    (
        "try:\n"
        "    {o} = {u}.view({u}.shape[0], {c}, -1, {u}.shape[3])[:, :, :{u}.shape[2]]\n"
        "except RuntimeError:\n"
        "    {o} = {u}"
    ),
    "self.last = {u}.detach()\n{o} = {u}",
    "{o} = {u} if torch.is_grad_enabled() else {u} * 1",
    "{o} = self.held({u}) if {u}.shape[1] == 8 else {u}",
    "{o} = {u} * (2 if self.training else 1)",
    "{o} = {u} + (self.mark.sum() if {u}.shape[1] % 3 else 0)",
    "{o} = {u} * torch.tensor([{u}.shape[1] * 0.1], dtype={u}.dtype)",
    "{o} = [{u}, {u} * 2][{u}.shape[1] % 2]",
    "{o} = {u} if str({u}.shape[1]).endswith('8') else {u} * 2",
    "{o} = {u} if not {u}.requires_grad else {u} * 1.0",
    (
        "{o} = {u}.transpose(0, 1).reshape({u}.shape[1], -1).reshape({u}.shape[1], {u}.shape[0], "
        "*{u}.shape[2:]).transpose(0, 1)"
    ),
    (
        "{o} = F.conv2d({u}.reshape(1, -1, *{u}.shape[2:]), self.depth.expand({u}.shape[0] * "
        "{u}.shape[1], 1, 3, 3), padding=1, groups={u}.shape[0] * {u}.shape[1]).view({u}.shape)"
    ),
    "{o} = torch.cat([one[None] for one in {u}])",
    "{o} = torch.stack([one * 2 for one in {u}.unbind(0)])",
    "{o} = {u}.view({u}.shape[0], -1)[:, : {u}[0].numel()].view_as({u})",
    "{o} = {u} + x[:, :1, [{u}.shape[1] % 5]]",
    "{o} = {u}.clone(); {o}[:, :, [{u}.shape[1] % 4, 1]] *= 2",
    "{o} = {u} + {u}.new_tensor({u}.shape[1] / 10)",
    "{o} = {u} + nn.Parameter({u}.detach())",
    "{o} = {u}.as_subclass(Named).as_subclass(torch.Tensor)",
    (
        "with torch.random.fork_rng():\n"
        "    torch.manual_seed({u}.shape[1])\n"
        "    noise = torch.rand(1, dtype={u}.dtype)\n"
        "{o} = {u} + noise"
    ),
    "z = torch.zeros(6, dtype={u}.dtype); part = z[{u}.shape[1] % 5]; z.copy_(x[0, 0, 0]); {o} = {u} + part",
    # what Python does beside operators: gradients, errors, numbers of numpy, state
    "with torch.no_grad():\n    t = {u} * 0.5\n{o} = {u} + t",
    "with torch.set_grad_enabled({u}.shape[1] > {c}):\n    t = {u} * 0.5\n{o} = {u} + t",
    "with torch.set_grad_enabled({u}.shape[2] > 4):\n    t = {u} * 0.5\n{o} = {u} + t",
    "{o} = {u}.detach() * {u}",
    "{o} = torch.utils.checkpoint.checkpoint(torch.tanh, {u}, use_reentrant=False)",
    "{o} = {u} / np.sqrt({u}.shape[1])",
    "{o} = {u} * np.float64(0.5)",
    "{o} = {u}.softmax(np.int64(2))",
    "{o} = {u} + {u}.new_tensor(np.arange({u}.shape[3]))",
    "try:\n    {o} = {u}.view(len({u}), {c}, -1).flip(1).view({u}.shape)\nexcept RuntimeError:\n    {o} = -{u}",
    "try:\n    {o} = {u} + {u}.shape[4]\nexcept IndexError:\n    {o} = {u} * 2",
    "try:\n    {o} = {u} + {u}[:, {c}:{c} + 1].view(len({u}), 1, *{u}.shape[2:])\nexcept Exception:\n    {o} = {u} * 3",
    "with contextlib.suppress(RuntimeError):\n    {u} = {u} + {u}.reshape(2, -1).sum()\n{o} = {u}.relu()",
    "self.seen = getattr(self, 'seen', 0) + 1\n{o} = {u} * (1 if self.seen else 2)",
    "self.last = {u}.shape[1]\n{o} = {u} * (self.last > {c}) + {u}",
    "self.gain.requires_grad_({u}.shape[1] > {c})\n{o} = {u} * self.gain",
    # numbers that mix sizes of the input with a width
    "{o} = {u} * (len({u}) % {u}.shape[1] + 1)",
    "{o} = {u} * (2 if {u}.shape[0] < {u}.shape[1] else 1)",
    "{o} = {u} * math.gcd({u}.shape[0], {u}.shape[1])",
    "{o} = {u} * (1 + {u}.shape[2] // {u}.shape[1])",
    "{o} = {u} + {u}[: {u}.shape[1]].sum()",
    "{o} = {u} * min({u}.shape)",
    "{o} = {u} * (3 if {u}.shape[2] > self.c{n}.out_channels else 1)",
    "{o} = {u} if {u}.numel() == {u}.shape[0] * {u}.shape[1] * {u}[0, 0].numel() else -{u}",
]

# One image to one of {c} channels, or of as many, by a layer.
CHANGING = [
    "{o} = self.c{n}({u})",
    "{o} = self.c{n}({u}.relu())",
    "{o} = F.conv2d({u}, self.c{n}.weight, self.c{n}.bias)",
    "{o} = self.p{n}({u}.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)",
    "{o} = self.s{n}({u})",
    "{o} = self.g{n}({u})",
    "{o} = (self.p{n}.weight @ {u}.flatten(2)).view({u}.shape[0], -1, *{u}.shape[2:])",
    "{o} = torch.einsum('oc,nchw->nohw', self.p{n}.weight, {u})",
    "{o} = {u} + self.t{n}({u})",
    "{o} = (lambda t: self.c{n}(t))({u})",
    "{o} = self.f{n}({u})",
]

# One image to one of another number of channels.
CUTTING = [
    "{o} = {u}[:, :2]",
    "{o} = {u}[:, {u}.shape[1] // 2:]",
    "{o} = {u}.chunk(2, 1)[0]",
    "{o} = {u}[:, ::2]",
    "a, b = {u}.chunk(2, dim=1)\n{o} = a * b.sigmoid()",
    "{o} = torch.cat([{u}, {u}.relu()], 1)",
    "{o} = torch.cat(({u}, {u}[:, :1]), dim=1)",
    "{o} = {u}.view({u}.shape[0], 2, -1, *{u}.shape[2:]).mean(1)",
    "{o} = F.pixel_shuffle({u}.repeat(1, 4, 1, 1), 2)[:, :, ::2, ::2]",
    "{o} = {u}.narrow(1, 0, {u}.shape[1] - 1)",
    "{o} = {u}.view({u}.shape[0], 2, {u}.shape[1] // 2, *{u}.shape[2:]).transpose(1, 2).reshape({u}.shape)",
    "{o} = {u}.repeat_interleave(2, 1)",
    "{o} = torch.split({u}, {u}.shape[1] // 2, 1)[1]",
    (
        "q = {u}.flatten(2).transpose(1, 2)\n"
        "{o} = ((q @ q.transpose(1, 2)).softmax(-1) @ q).transpose(1, 2).reshape({u}.shape)"
    ),
    "q = {u}.flatten(2)\n{o} = ((q @ q.transpose(1, 2) / q.shape[1]) @ q).view({u}.shape)",
    "{o} = {u}.topk(2, dim=1).values",
    (
        "q = {u}.view({u}.shape[0], self.heads, -1, {u}.shape[2] * {u}.shape[3])\n"
        "{o} = (q.transpose(-1, -2).softmax(-1)).transpose(-1, -2).reshape({u}.shape)"
    ),
]

# Two images of as many channels to one.
MEETING = [
    "{o} = {u} + {v}",
    "{o} = {u} * {v}",
    "{o} = torch.cat([{u}, {v}], 1)",
    "{o} = {u} - {v}.relu()",
]

# The last statement.
RESULTS = [
    "return self.head({u}.mean((2, 3)))",
    "return self.head(F.adaptive_avg_pool2d({u}, 1).flatten(1))",
    "return {{'y': self.head({u}.mean((2, 3))), 'size': {v}.shape[2]}}",
    "return self.head({u}.mean((2, 3))), {v}.mean()",
    "return self.head({u}.mean((2, 3))), torch.zeros({v}.shape[1])",
    "return [self.head({u}.mean((2, 3)))] * ({v}.shape[1] // 4)",
    "return self.head({u}.amax((2, 3))), {v}.shape[1]",
    "y = self.head({u}.mean((2, 3)))\nreturn y if {v}.shape[1] < 9 else y * 2",
    "return self.head({u}[..., 0, 0]), x.mean(), torch.arange({v}.shape[0])",
    "return self.head(torch.einsum('nchw->nc', {u}))",
    "n = {v}.shape[1]\nreturn self.head({u}.mean((2, 3))), slice(0, n), (lambda: n)()",
    "return self.head({u}.permute(0, 2, 3, 1).reshape(-1, {u}.shape[1])).view({u}.shape[0], -1)",
]
