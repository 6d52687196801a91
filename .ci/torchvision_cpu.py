"""Let a torchvision wheel built for CUDA be imported beside a CPU build of torch.

Such a wheel cannot load its compiled operators and then fails at import, because it registers meta kernels
for the operators `nms` and `qnms` that nobody declared. Run as a script, this file puts itself into the
environment's site-packages with a `.pth` file, so that every process declares the two schemas before
torchvision is imported. Nothing in this project calls the operators.
"""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class DeclareOperators(MetaPathFinder):
    """Declare the operators when torchvision is first looked up, then step aside."""

    def find_spec(
        self, name: str, path: object = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Never find anything: the import goes on with the next finder."""
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            self.library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                self.library.define(operator + SCHEMA)
            KEEP.append(self)  # the schemas live as long as the library object
        return None


KEEP: list[DeclareOperators] = []

if __name__ == "__main__":
    import shutil
    import sysconfig
    from pathlib import Path

    site_packages = Path(sysconfig.get_paths()["purelib"])
    shutil.copy(__file__, site_packages / "torchvision_cpu.py")
    (site_packages / "torchvision_cpu.pth").write_text("import torchvision_cpu\n")
else:
    sys.meta_path.insert(0, DeclareOperators())
