"""The published checkpoints that can be had by name: where they lie and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass

HOPELESSNET = "https://github.com/shahroudy/deep-head-pose/raw/3f2fc670fbd39c5b10f7007f87b725034a73fc77/models"
PYTORCH = "https://download.pytorch.org/models"
EFFICIENTNETV2 = (
    "https://github.com/hankyul2/EfficientNetV2-pytorch/releases/download/EfficientNetV2-pytorch"
)
DRIVE = "https://drive.google.com/file/d"

RESEARCH = "Apache-2.0 (trained on 300W-LP: research use)"
BSD = "BSD-3-Clause"
UNSTATED = "not stated here: see the repository"


@dataclass(frozen=True)
class Published:
    """One published checkpoint.

    Attributes:
        name: what `convert.py --weight` calls it.
        what: method or backbone, for people.
        url: direct link; None where the file lies behind an interactive page.
        page: that page.
        digest: (kind, hex digits): "sha256", "sha256_prefix" (its first digits) or "git_blob"
            (SHA-1 of "blob <size>\\0" and the content); None where nobody published one.
        licence: of the weights.
        figure: the publisher's own figure.
    """

    name: str
    what: str
    url: str | None = None
    digest: tuple[str, str] | None = None
    licence: str = UNSTATED
    figure: str = ""
    page: str | None = None

    @property
    def file_name(self) -> str:
        """Name of the downloaded file: unlike the link's own, it is unique."""
        assert self.url is not None
        return f"{self.name}.{self.url.rsplit('.', 1)[-1]}"


def _hopelessnet(name: str, file: str, digest: tuple[str, str], mae: float) -> Published:
    what = f"hopenet {name.split('-')[1]}"
    figure = f"AFLW2000 MAE {mae}"
    return Published(name, what, f"{HOPELESSNET}/{file}", digest, RESEARCH, figure)


def _torchvision(arch: str, file: str) -> Published:
    prefix = file.rsplit("-", 1)[1].removesuffix(".pth")
    return Published(
        f"imagenet-{arch}", f"backbone {arch}", f"{PYTORCH}/{file}", ("sha256_prefix", prefix), BSD
    )


def _efficientnetv2(size: str) -> Published:
    name = f"imagenet21k-efficientnetv2-{size}"
    url = f"{EFFICIENTNETV2}/efficientnetv2-{size}-21k.npy"
    return Published(name, f"backbone efficientnetv2_{size}", url)


PUBLISHED = {
    entry.name: entry
    for entry in (
        _hopelessnet(
            "hopelessnet-squeezenet1_0",
            "squeezenet_1_0.pkl",
            ("sha256", "4401c2734f4972b2634b069f61258769af1bcb28f27506e77589b13477a05fd3"),
            7.3259,
        ),
        _hopelessnet(
            "hopelessnet-squeezenet1_1",
            "squeezenet_1_1.pkl",
            ("sha256", "20cee24f37bd1527d0e4350577ba3a261f759f37de6bb04d2940c27f9f815b77"),
            7.8242,
        ),
        _hopelessnet(
            "hopelessnet-mobilenetv2",
            "mobilenetv2.pkl",
            ("git_blob", "442774a4f140ae9884947067e3353ec469495529"),
            6.8259,
        ),
        _hopelessnet(
            "hopelessnet-resnet18",
            "hopenet_resnet18.pkl",
            ("git_blob", "ecd2e9d42ca439389850ddad1fff6c09a8029956"),
            6.3797,
        ),
        _hopelessnet(
            "hopenet-resnet50-alpha1",
            "hopenet_snapshot_a1.pkl",
            ("git_blob", "8262c7d0d9d93170f2314d20b3db4962050e7896"),
            5.7062,
        ),
        Published(
            "whenet",
            "whenet",
            "https://github.com/Ascend-Research/HeadPoseEstimation-WHENet/raw/"
            "a0d7bdfb5e2ac97ae6b0ae3eef79fdcf4075ab82/WHENet.h5",
            ("git_blob", "ea13d612231a84d7c3adc5a5cee49bb6da5867af"),
            "BSD-type (trained on 300W-LP and CMU Panoptic: research use)",
        ),
        Published(
            "nlml-encoder",
            "nlml",
            "https://github.com/MahdiGhafoorian/NLML_HPE/raw/"
            "8b2fcd862a61d2da6f32898bf9665d3406f4af86/models/Encoder.pth",
            ("git_blob", "d8c9cce9cf9c4937bc60c4ce88b7437984098da7"),
            "MIT",
        ),
        _torchvision("resnet18", "resnet18-5c106cde.pth"),
        _torchvision("resnet34", "resnet34-333f7ec4.pth"),
        _torchvision("resnet50", "resnet50-19c8e357.pth"),
        _torchvision("resnet101", "resnet101-5d3b4d8f.pth"),
        _torchvision("resnet152", "resnet152-b121ed2d.pth"),
        _torchvision("squeezenet1_0", "squeezenet1_0-a815701f.pth"),
        _torchvision("squeezenet1_1", "squeezenet1_1-f364aa15.pth"),
        _torchvision("mobilenetv2", "mobilenet_v2-b0353104.pth"),
        Published(
            "imagenet21k-vit-b16",
            "backbone vit_b16",
            "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-vitjx/"
            "jx_vit_base_patch16_224_in21k-e5005f0a.pth",
            ("sha256_prefix", "e5005f0a"),
            "Apache-2.0",
        ),
        _efficientnetv2("s"),
        _efficientnetv2("m"),
        _efficientnetv2("l"),
        Published(
            "hopenet-mlx-resnet50-128",
            "hopenet resnet50",
            page=f"{DRIVE}/1_bIg1TobBM8m_DoyDO0MLGBDHHp4dsNr",
            figure="AFLW2000 MAE 4.663",
        ),
        Published(
            "pyramid-aflw2000",
            "pyramid",
            page=f"{DRIVE}/1Bw0A0PLcvcmkpfC0H_zhEFJ6ukbX4Mm2",
            figure="AFLW2000 MAE 3.42",
        ),
        Published(
            "pyramid-biwi",
            "pyramid",
            page=f"{DRIVE}/1wt5Qn-87-PBXNs5gIuqQ-XEqPECWTm8s",
            figure="BIWI MAE 3.57",
        ),
        Published(
            "pyramid-dad3dheads", "pyramid", page=f"{DRIVE}/1BiDf62gjkffXQYg2HgLisMsfldEXX49P"
        ),
        Published(
            "tokenhpe-vitb16-lyr3",
            "tokenhpe",
            page=f"{DRIVE}/1bqfJs4mvQd4jQELsj3utEEeS6SDzW30_",
            figure="AFLW2000 MAE 4.81, VMAE 6.09",
        ),
        Published(
            "yunet-2023mar",
            "face detector",
            "https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/"
            "face_detection_yunet_2023mar.onnx",
            ("sha256", "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"),
            "MIT",
        ),
    )
}
