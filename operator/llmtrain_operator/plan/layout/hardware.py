"""Memory, speed and links of GPU products, by the name in spec.resources.gpu. Facts only."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from llmtrain_operator.manifest.divisors import listed
from llmtrain_operator.manifest.problem import Problem

MIB = 2**20
TERA = 1e12
GIGA = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One product. FLOP rates are dense (no sparsity), as its data sheet gives them."""

    name: str
    memory_bytes: int
    """Usable memory as the driver reports it, with ECC on."""

    bf16_flops: float | None
    """Peak in bfloat16 with fp32 accumulation; None if the product has no bfloat16 units."""

    fp32_flops: float
    """Peak in fp32, without TF32: PyTorch leaves TF32 off for matrices."""

    link_bytes_per_second: float
    """Bandwidth between two GPUs of a node, both directions together: NVLink, Infinity Fabric, or PCIe."""

    per_node: int
    """GPUs of a typical server."""

    domain: int
    """GPUs connected by the fast link; 1 with PCIe only."""

    def peak_flops(self, precision: str) -> float:
        """Peak in FLOPS for a precision. A product without bfloat16 was refused with bf16 before."""
        return self.fp32_flops if precision == "fp32" else self.bf16_flops or self.fp32_flops


def _gpu(name: str, mib: int, bf16: float | None, fp32: float, link: float, per_node: int, domain: int) -> Gpu:
    return Gpu(
        name=name,
        memory_bytes=mib * MIB,
        bf16_flops=bf16 * TERA if bf16 else None,
        fp32_flops=fp32 * TERA,
        link_bytes_per_second=link * GIGA,
        per_node=per_node,
        domain=domain,
    )


#      name           memory MiB  bf16 T  fp32 T  link GB/s  per node  domain
PRODUCTS = (
    _gpu("T4", 15_360, None, 8.1, 32, 4, 1),
    _gpu("V100-16GB", 16_160, None, 15.7, 300, 8, 8),
    _gpu("V100-32GB", 32_510, None, 15.7, 300, 8, 8),
    _gpu("A10", 23_028, 125, 31.2, 64, 4, 1),
    _gpu("A10G", 23_028, 70, 31.5, 64, 4, 1),
    _gpu("A30", 24_576, 165, 10.3, 200, 4, 2),
    _gpu("A40", 46_068, 149.7, 37.4, 112.5, 8, 2),
    _gpu("A100-40GB", 40_960, 312, 19.5, 600, 8, 8),
    _gpu("A100-80GB", 81_920, 312, 19.5, 600, 8, 8),
    _gpu("A100-PCIe-80GB", 81_920, 312, 19.5, 64, 8, 1),
    _gpu("A800-80GB", 81_920, 312, 19.5, 400, 8, 8),
    _gpu("L4", 23_034, 121, 30.3, 64, 8, 1),
    _gpu("L40", 46_068, 181, 90.5, 64, 8, 1),
    _gpu("L40S", 46_068, 362, 91.6, 64, 8, 1),
    _gpu("H100-80GB", 81_559, 989, 67, 900, 8, 8),
    _gpu("H100-PCIe", 81_559, 756, 51, 128, 8, 1),
    _gpu("H100-NVL", 95_830, 835, 60, 600, 8, 2),
    _gpu("H800-80GB", 81_559, 989, 67, 400, 8, 8),
    _gpu("H20-96GB", 97_871, 148, 44, 900, 8, 8),
    _gpu("H200-141GB", 143_771, 989, 67, 900, 8, 8),
    _gpu("GH200-96GB", 97_871, 989, 67, 900, 1, 1),
    _gpu("B200", 183_359, 2250, 75, 1800, 8, 8),
    _gpu("B300", 275_040, 2250, 75, 1800, 8, 8),
    _gpu("GB200", 189_471, 2500, 80, 1800, 4, 72),
    _gpu("GB300", 284_208, 2500, 80, 1800, 4, 72),
    _gpu("RTX-3090", 24_576, 71, 35.6, 64, 8, 1),
    _gpu("RTX-4090", 24_564, 165, 82.6, 64, 8, 1),
    _gpu("RTX-5090", 32_607, 209.5, 104.8, 128, 8, 1),
    _gpu("RTX-A6000", 49_140, 155, 38.7, 112.5, 8, 2),
    _gpu("RTX-6000-Ada", 49_140, 364, 91.1, 64, 8, 1),
    _gpu("MI250X", 65_520, 191.5, 47.9, 100, 8, 8),
    _gpu("MI300X", 196_592, 1307, 163.4, 896, 8, 8),
    _gpu("MI325X", 262_128, 1307, 163.4, 896, 8, 8),
    _gpu("MI355X", 294_896, 2516, 157.3, 1075, 8, 8),
)

ALIASES: Mapping[str, str] = {
    "t4": "T4",
    "a100sxm440gb": "A100-40GB",
    "a100sxm480gb": "A100-80GB",
    "a10080gbpcie": "A100-PCIe-80GB",
    "h100": "H100-80GB",
    "h10080gbhbm3": "H100-80GB",
    "h100sxm": "H100-80GB",
    "h100pcie80gb": "H100-PCIe",
    "h200": "H200-141GB",
    "teslat4": "T4",
    "teslav100sxm216gb": "V100-16GB",
    "teslav100sxm232gb": "V100-32GB",
    "geforcertx3090": "RTX-3090",
    "geforcertx4090": "RTX-4090",
    "geforcertx5090": "RTX-5090",
    "h20": "H20-96GB",
    "gh200": "GH200-96GB",
}
"""Other spellings, such as those of the node label nvidia.com/gpu.product, in the form of `_plain`."""


def find_gpu(name: str) -> Gpu | Problem:
    """The product of that name, or a Problem that suggests the nearest ones."""
    by_plain = {_plain(gpu.name): gpu for gpu in PRODUCTS}
    wanted = ALIASES.get(_plain(name), name)
    if found := by_plain.get(_plain(wanted)):
        return found
    begun = [plain for plain in by_plain if plain.startswith(_plain(name))]
    near = begun or difflib.get_close_matches(_plain(name), by_plain, n=3, cutoff=0.5)
    known = [by_plain[plain].name for plain in near] or [gpu.name for gpu in PRODUCTS]
    way_out = f"Use {listed(known)}"
    return Problem("spec.resources.gpu", name, "it must be a product whose memory and speed are known", way_out)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().removeprefix("nvidia").removeprefix("amd"))
