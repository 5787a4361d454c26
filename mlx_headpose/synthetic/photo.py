"""The picture around the head: what is behind it, before it, and what the camera does to both."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .light import sample_tint


def natural(rng: np.random.Generator) -> np.ndarray:
    """A colour 0..255 as backgrounds have it: mostly greyish, at times green, blue or vivid."""
    colour = rng.uniform(0, 255) * np.ones(3)
    if rng.random() < 0.25:
        colour = np.array([[70, 100, 45], [120, 150, 190], [150, 115, 85]])[rng.integers(0, 3)]
        colour = colour * rng.uniform(0.4, 1.6)
    return colour + rng.choice((8, 25, 70), p=(0.5, 0.35, 0.15)) * rng.normal(0, 0.6, 3)


class Photo:
    """Surroundings and camera of an image, sampled without looking at the head's pose."""

    def background(self, side: int, rng: np.random.Generator) -> Image.Image:
        """Something behind the head: blurred colours, edges, shapes; never flat."""
        base = natural(rng)
        spread, chroma = rng.uniform(8, 70), rng.uniform(0, 0.5)
        cells = int(rng.choice((2, 3, 4, 6, 10)))
        light = rng.normal(0, spread, (cells, cells, 1))
        colours = base + light + chroma * rng.normal(0, spread, (cells, cells, 3))
        small = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))
        smooth = Image.Resampling.BICUBIC if rng.random() < 0.85 else Image.Resampling.NEAREST
        canvas = small.resize((96, 96), smooth)
        draw = ImageDraw.Draw(canvas)
        for _ in range(int(rng.integers(0, 9))):
            x, y = rng.uniform(-20, 116, 2)
            w, h = rng.uniform(3, 60, 2)
            other = base + rng.normal(0, 50) if rng.random() < 0.7 else natural(rng)
            colour = tuple(int(v) for v in np.clip(other, 0, 255))
            kind = rng.integers(0, 3)
            if kind == 0:
                draw.rectangle((x, y, x + w, y + h), fill=colour)
            elif kind == 1:
                draw.ellipse((x, y, x + w, y + w), fill=colour)
            else:
                draw.line(
                    (x, y, *rng.uniform(-20, 116, 2)), fill=colour, width=int(rng.integers(1, 9))
                )
        if rng.random() < 0.35:
            texture = rng.normal(0, rng.uniform(4, 26), (96, 96, 1))
            canvas = Image.fromarray(np.clip(np.asarray(canvas) + texture, 0, 255).astype(np.uint8))
        if rng.random() < 0.7:
            canvas = canvas.filter(ImageFilter.BoxBlur(float(rng.uniform(0.5, 5))))
        return canvas.resize((side, side), Image.Resampling.BILINEAR)

    def occlude(self, picture: Image.Image, skin: np.ndarray, rng: np.random.Generator) -> None:
        """At times something lies before the head: a hand's worth of skin, or a thing."""
        if rng.random() > 0.08:
            return
        side = picture.width
        draw = ImageDraw.Draw(picture)
        fingers = rng.random() < 0.5
        colour = np.sqrt(skin) * 230 if fingers else rng.uniform(0, 255, 3)
        fill = tuple(int(v) for v in np.clip(colour, 0, 255))
        x, y = rng.uniform(0.1, 0.9, 2) * side
        angle = rng.uniform(0, np.pi)
        for finger in range(4 if fingers else 1):
            length = rng.uniform(0.12, 0.3) * side
            width = max(2, int(side * (0.045 if fingers else rng.uniform(0.03, 0.15))))
            px = x + finger * width * np.sin(angle) * 1.1
            py = y - finger * width * np.cos(angle) * 1.1
            draw.line(
                (px, py, px + length * np.cos(angle), py + length * np.sin(angle)),
                fill=fill,
                width=width,
            )

    def develop(self, picture: Image.Image, side: int, rng: np.random.Generator) -> Image.Image:
        """What lens, sensor and file do: blur, low resolution, contrast, colour, noise."""
        if rng.random() < 0.25:
            low = int(side * rng.uniform(0.3, 0.75))
            picture = picture.resize((low, low), Image.Resampling.BOX)
            picture = picture.resize((side, side), Image.Resampling.BICUBIC)
        else:
            picture = picture.resize((side, side), Image.Resampling.BILINEAR)
        if rng.random() < 0.25:
            picture = picture.filter(ImageFilter.BoxBlur(float(rng.uniform(0.2, 1.0) * side / 128)))
        pixels = np.asarray(picture).astype(np.float32)
        grey = np.array([0.3, 0.59, 0.11])
        saturation = rng.uniform(0.5, 1.15) if rng.random() > 0.16 else 0.0
        tint = sample_tint(rng, 0.06) if saturation or rng.random() < 0.3 else np.ones(3)
        contrast = np.exp(rng.normal(0.05, 0.2))
        # Saturation, tint and contrast in one step.
        mixing = np.tile(grey[:, None] * (1 - saturation), 3) + saturation * np.eye(3)
        mixing *= tint * contrast
        pixels = pixels.reshape(-1, 3) @ mixing.astype(np.float32)
        pixels += np.float32(110 * (1 - contrast) + rng.normal(0, 12))
        noise = rng.standard_normal(pixels.shape, np.float32)
        noise *= np.float32(abs(rng.normal(0, 5)))
        pixels += noise
        np.clip(pixels, 0, 255, out=pixels)
        return Image.fromarray(pixels.astype(np.uint8).reshape(side, side, 3))


PLAIN = Photo()
