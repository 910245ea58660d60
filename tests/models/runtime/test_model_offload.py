"""At most one module is in the device slot, and offloading copies nothing back."""

from __future__ import annotations

import torch

from longtake.models.runtime.model_offload import DeviceSlot, LazyModule, ModuleOffload


class Logged:
    """An OffloadedModule that logs its moves."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def onload(self):
        self.log.append(f"{self.name} on")

    def offload(self):
        self.log.append(f"{self.name} off")


def test_a_slot_holds_one_module_at_a_time():
    log, slot = [], DeviceSlot()
    a, b = (slot.before_use(Logged(name, log)) for name in "ab")
    for use in (a, a, b, a):
        use()
    slot.enter(None)
    assert log == ["a on", "a off", "b on", "b off", "a on", "a off"]


def test_offloading_returns_to_the_tensors_in_host_memory():
    net = torch.nn.BatchNorm1d(3)
    before = [tensor.data_ptr() for tensor in (*net.parameters(), *net.buffers())]
    module = ModuleOffload(net, "cpu")
    module.onload()
    module.offload()
    assert [tensor.data_ptr() for tensor in (*net.parameters(), *net.buffers())] == before and not module.host


def test_tensors_of_companions_move_with_the_module():
    moves = []

    class Companion:
        def to(self, device):
            moves.append(device)

    module, companion = ModuleOffload(torch.nn.Linear(3, 3), "cpu:0"), Companion()
    module.companions.add(companion)
    module.onload()
    module.offload()
    assert moves == ["cpu:0", "cpu"]


def test_a_lazy_module_is_read_when_needed_and_dropped_afterwards():
    users = []
    lazy = LazyModule(lambda: torch.nn.Linear(2, 2), users.append)
    lazy.onload()
    lazy.offload()
    assert isinstance(users[0], torch.nn.Linear) and users[1] is None
