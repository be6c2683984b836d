"""timm: one small member of each family of networks, by both exporters; random weights."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from convlens_adapters.corpus.items import Item, spread
from convlens_adapters.corpus.torch_export import DYNAMO, LEGACY, export, randomise, torchvision

SIDES = (96, 128, 160, 224, 256)
"""Tried in turn for nets that take any size: the first that runs is exported."""

_NAMES = """
resnet10t resnet18 seresnet18 ecaresnet26t resnetaa34d resnetblur18 resnext26ts gcresnext26ts
legacy_seresnet18 resnetv2_18 resnetv2_18d skresnet18 resnest14d res2net50_14w_8s selecsls42 tresnet_m
densenet121 densenetblur121d dpn48b dla46_c dla60_res2net cs3darknet_s cs3darknet_focus_s cspnext_tiny
cspresnet50 cspresnext50 darknet53 vovnet39a ese_vovnet19b_dw xception41 legacy_xception xception65p
inception_v3 inception_v4 inception_resnet_v2 inception_next_atto regnetx_002 regnety_002 regnetz_005
regnetv_040 mnasnet_small mobilenetv2_035 efficientnet_b0 tf_efficientnet_lite0 tf_efficientnetv2_b0
efficientnet_es mixnet_s tinynet_e fbnetc_100 spnasnet_100 semnasnet_075 efficientnet_cc_b0_4e
mobilenetv1_100 mobilenetv3_small_050 mobilenetv3_large_075 fbnetv3_b lcnet_035 lcnetv2_small
mobilenetv4_conv_small mobilenetv4_hybrid_medium hardcorenas_a ghostnet_050 ghostnetv2_100 ghostnetv3_050
repghostnet_050 rexnet_100 rexnetr_100 hrnet_w18_small hgnetv2_b0 starnet_s050 fasternet_t0 shvit_s1
repvit_m0_9 mobileone_s0 repvgg_a0 gernet_s test_byobnet halonet_h1 eca_botnext26ts_256 lambda_resnet26t
bat_resnext26ts sebotnet33ts_256 nf_regnet_b0 nf_resnet26 dm_nfnet_f0 eca_nfnet_l0 test_nfnet
convnext_atto convnextv2_atto convnext_atto_ols test_convnext convmixer_768_32 poolformer_s12
poolformerv2_s12 convformer_s18 caformer_s18 mambaout_femto edgenext_xx_small efficientformer_l1
efficientformerv2_s0 efficientvit_b0 efficientvit_m0 fastvit_t8 fastvit_mci0 mobilevit_xxs mobilevitv2_050
test_coatnet test_maxvit coatnet_pico_rw_224 levit_128s levit_conv_128s visformer_tiny pvt_v2_b0
nextvit_small swiftformer_xs iformer_t lowformer_b0 rdnet_tiny focalnet_tiny_srf davit_tiny gcvit_xxtiny
csatv2 cpubone_nano efficientvim_m1 convit_tiny pit_ti_224 tiny_vit_5m_224 swin_tiny_patch4_window7_224
swinv2_cr_tiny_224 vit_tiny_patch16_224 vit_small_r26_s32_224 mixer_s32_224 resmlp_12_224 gmlp_ti16_224
sequencer2d_s hiera_tiny_224 twins_pcpvt_small xcit_nano_12_p16_224 coat_lite_tiny crossvit_tiny_240
"""
NETS = tuple(_NAMES.split())


def prepare() -> None:
    """Import what every file needs once, before processes are started for them."""
    torchvision()
    importlib.import_module("timm")


def items() -> Iterator[Item]:
    """Each net by both exporters, the quick one first; opsets in turn, every third batch open."""
    known = set(importlib.import_module("timm").list_models())
    for exporter, opsets in (("legacy", LEGACY), ("dynamo", DYNAMO)):
        for index, name in enumerate(NETS):
            if name not in known:
                continue
            opset, is_open = spread(opsets, index), index % 3 == 1
            label = "-".join(filter(None, (name, exporter, str(opset), "open" if is_open else "")))
            yield Item(label, partial(_build, name, exporter, opset, is_open))


def _build(name: str, exporter: str, opset: int, is_open: bool, path: Path) -> None:
    import torch

    timm = importlib.import_module("timm")
    torch.manual_seed(0)
    module = randomise(timm.create_model(name, pretrained=False, num_classes=10, exportable=True))
    given = module.default_cfg["input_size"]
    sides = (given[-1],) if module.default_cfg.get("fixed_input_size") else (*SIDES, given[-1])
    for side in sides:
        x = torch.rand(2 if is_open else 1, given[0], side, side)
        try:
            with torch.no_grad():
                module(x)
            break
        except (RuntimeError, AssertionError, ValueError):
            if side == sides[-1]:
                raise
    export(module, (x,), path, exporter, opset, (0,) if is_open else ())
