"""A scene that is being played: bodies are placed, limbs stretched, parts shown and hidden."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

from simkitchen.geometry import Array, along, quaternion, vec
from simkitchen.scene import Scene

AWAY = vec(0, 0, -5)


class Stage:
    """MuJoCo's model of a scene. Nothing falls or collides: all that moves is placed."""

    def __init__(self, scene: Scene, *, pixels: int, shadow: int, ambient: float, headlight: float) -> None:
        import mujoco  # of the extra `sim`; `rendering` has seen to it

        self._mujoco: Any = mujoco
        xml = scene.xml(pixels=pixels, shadow=shadow, ambient=ambient, headlight=headlight)
        files = {f"{name}.png": png(picture) for name, picture in scene.textures.items()}
        self.model: Any = mujoco.MjModel.from_xml_string(xml, files)
        self.data: Any = mujoco.MjData(self.model)
        self._bodies = {name: int(self.model.body_mocapid[self.model.body(name).id]) for name in scene.moving}
        mujoco.mj_forward(self.model, self.data)  # the lights, which don't move
        self._geoms: dict[str, int] = {}
        self._alphas: dict[int, float] = {}

    def place(self, body: str, at: Array, turned: Array | None = None) -> None:
        """Put a body somewhere."""
        index = self._bodies[body]
        self.data.mocap_pos[index] = at
        self.data.mocap_quat[index] = (1, 0, 0, 0) if turned is None else quaternion(turned)

    def hide(self, body: str) -> None:
        """Put a body where no camera looks."""
        self.place(body, AWAY)

    def span(self, body: str, start: Array, end: Array) -> None:
        """Stretch a capsule, a geom of the same name as its body, from one point to another."""
        geom, reach = self._geom(body), end - start
        half = float(np.sqrt(reach @ reach)) / 2
        self.model.geom_size[geom, 1] = half
        self.model.geom_rbound[geom] = half + 0.1
        self.place(body, (start + end) / 2, along(reach))

    def show(self, geom: str, share: bool | float) -> None:
        """Show a geom as it is, not at all, or by a share."""
        index = self._geom(geom)
        full = self._alphas.setdefault(index, float(self.model.geom_rgba[index, 3]) or 1.0)
        self.model.geom_rgba[index, 3] = full * float(share)

    def settle(self) -> None:
        """Work out where everything is, once all is placed."""
        self._mujoco.mj_kinematics(self.model, self.data)

    def sees(self, eye: Array, point: Array, near: float) -> bool:
        """Whether nothing opaque stands between, short of `near` the point."""
        ray = point - eye
        distance = float(np.sqrt(ray @ ray))
        groups, hit = np.ones(6, np.uint8), np.zeros(1, np.int32)
        first = self._mujoco.mj_ray(self.model, self.data, eye, ray / distance, groups, 1, -1, hit, None)
        return bool(first < 0 or first > distance - near)

    def _geom(self, name: str) -> int:
        if name not in self._geoms:
            self._geoms[name] = int(self.model.geom(name).id)
        return self._geoms[name]


def png(picture: Array) -> bytes:
    """A picture `(H, W, 3)`, from 0 to 1, as PNG."""
    pixels = np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)
    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], 1).tobytes()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
