"""A scene as MuJoCo reads it, written geom by geom. Everything that moves is a body of its own, placed frame by frame."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from simkitchen.geometry import Array, Mesh, quaternion

WORLD = "world"
BODY_GROUP, HEAD_GROUP = 2, 3
"""Geoms of who acts; those of the head are not seen by the camera on it."""


class Scene:
    """Materials, meshes, lights and geoms on their way to XML.

    Textures are kept as pictures beside it, under the names of their materials.
    """

    def __init__(self) -> None:
        self.textures: dict[str, Array] = {}
        self._materials: list[str] = []
        self._meshes: list[str] = []
        self._lights: list[str] = []
        self._bodies: dict[str, list[str]] = {WORLD: []}

    @property
    def moving(self) -> list[str]:
        """The bodies that are placed frame by frame."""
        return [name for name in self._bodies if name != WORLD]

    def material(self, name: str, texture: Array, repeat: float, shine: float = 0.2) -> str:
        """A textured material.

        Args:
            name: unique.
            texture: a picture `(N, N, 3)`, from 0 to 1.
            repeat: how often it fits into a metre.
            shine: how much light it reflects as highlights.
        """
        self.textures[name] = texture
        self._materials.append(
            f'<material name="{name}" specular="{shine}" shininess=".3" texture="{name}" '
            f'texrepeat="{repeat:.3g} {repeat:.3g}" texuniform="true"/>'
        )
        return name

    def body(self, name: str) -> str:
        """A new body that moves."""
        if name in self._bodies:
            raise ValueError(f"there is a body {name!r} already")
        self._bodies[name] = []
        return name

    def light(self, position: Array, towards: Array, colour: Array, *, shadow: bool) -> None:
        """A spotlight with shadows, or parallel light without."""
        kind = 'castshadow="true" cutoff="60" exponent="1"' if shadow else 'directional="true" castshadow="false"'
        shine = ".3 .3 .3" if shadow else "0 0 0"
        self._lights.append(
            f'<light pos="{_text(position)}" dir="{_text(towards - position)}" diffuse="{_text(colour)}" '
            f'specular="{shine}" {kind}/>'
        )

    def geom(
        self,
        body: str,
        kind: str,
        size: ArrayLike = (),
        at: ArrayLike = (0, 0, 0),
        colour: ArrayLike | None = None,
        *,
        alpha: float = 1.0,
        turned: Array | None = None,
        material: str = "gloss",
        name: str | None = None,
        group: int = 0,
    ) -> None:
        """A primitive: half-sizes of a box, radius and half-length of a cylinder or capsule, half-axes of an ellipsoid."""
        placed = f' pos="{_text(at)}"' + (f' quat="{_text(quaternion(turned))}"' if turned is not None else "")
        self._add(body, f'type="{kind}" size="{_text(size)}"{placed}', colour, alpha, material, name, group)

    def rod(
        self,
        body: str,
        radius: float,
        start: ArrayLike,
        end: ArrayLike,
        colour: ArrayLike,
        *,
        name: str | None = None,
        group: int = 0,
    ) -> None:
        """A rod with round ends from one point to another."""
        ends = f"{_text(start)} {_text(end)}"
        self._add(body, f'type="capsule" size="{radius:.4g}" fromto="{ends}"', colour, 1, "gloss", name, group)

    def rods(self, body: str, radius: float, points: Iterable[ArrayLike], colour: ArrayLike) -> None:
        """A bent rod through points."""
        for start, end in pairwise(points):
            self.rod(body, radius, start, end, colour)

    def mesh(
        self,
        body: str,
        mesh: Mesh,
        colour: ArrayLike,
        at: ArrayLike = (0, 0, 0),
        *,
        alpha: float = 1.0,
        turned: Array | None = None,
        name: str | None = None,
    ) -> None:
        """A surface."""
        corners, triangles = mesh
        key = f"m{len(self._meshes)}"
        faces = " ".join(map(str, triangles.ravel()))
        self._meshes.append(f'<mesh name="{key}" vertex="{_text(corners)}" face="{faces}" inertia="shell"/>')
        placed = f'pos="{_text(at)}"' + (f' quat="{_text(quaternion(turned))}"' if turned is not None else "")
        self._add(body, f'type="mesh" mesh="{key}" {placed}', colour, alpha, "gloss", name, 0)

    def _add(
        self,
        body: str,
        shape: str,
        colour: ArrayLike | None,
        alpha: float,
        material: str,
        name: str | None,
        group: int,
    ) -> None:
        tint = "" if colour is None else f' rgba="{_text(np.clip(colour, 0, 1))} {alpha:.3g}"'
        label = "" if name is None else f' name="{name}"'
        self._bodies[body].append(f'<geom{label} {shape} material="{material}"{tint} group="{group}"/>')

    def xml(self, *, pixels: int, shadow: int, ambient: float, headlight: float) -> str:
        """The whole scene.

        Args:
            pixels: side of the pictures to be rendered.
            shadow: side of the shadow map: the greatest cost of software rendering.
            ambient: light from everywhere.
            headlight: light from the camera.
        """
        lit = f'<headlight ambient="{_text([ambient] * 3)}" diffuse="{_text([headlight] * 3)}" specular="0 0 0"/>'
        textures = (f'<texture name="{name}" type="2d" file="{name}.png"/>' for name in self.textures)
        moving = (
            f'<body name="{name}" mocap="true" pos="0 0 -5">{"".join(self._bodies[name])}</body>'
            for name in self.moving
        )
        return "".join(
            [
                '<mujoco><compiler angle="radian" inertiafromgeom="false" boundmass="1" boundinertia="1"/><visual>',
                f'<global offwidth="{pixels}" offheight="{pixels}"/>',
                f'<quality shadowsize="{shadow}" offsamples="0" numslices="12" numstacks="6" numquads="2"/>',
                f'<map znear="0.02" zfar="12" shadowclip="1.6" shadowscale=".8"/>{lit}</visual>',
                '<asset><material name="gloss" specular=".3" shininess=".5"/>',
                *textures,
                *self._materials,
                *self._meshes,
                '</asset><default><geom contype="0" conaffinity="0" mass="0"/></default>',
                '<worldbody><camera name="camera" pos="0 0 2"/>',
                *self._lights,
                *self._bodies[WORLD],
                *moving,
                "</worldbody></mujoco>",
            ]
        )


def _text(values: ArrayLike) -> str:
    return " ".join(f"{value:.4g}" for value in np.ravel(np.asarray(values, float)))
