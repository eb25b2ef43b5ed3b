"""Pictures of a stage, by MuJoCo's renderer without a screen. One GL context serves a process, whatever it renders."""

from __future__ import annotations

import ctypes.util
import os
import sys
from functools import cache
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egoinstructor.errors import InputError, require_extra
from simkitchen.cameras import Frame
from simkitchen.scene import HEAD_GROUP
from simkitchen.stage import Stage

BACKENDS = {"egl": "EGL", "osmesa": "OSMesa"}
"""MuJoCo's names of its ways to render without a screen, and the library that each loads."""
MAX_GEOMS = 2000


@cache
def set_up_rendering() -> None:
    """Choose a way to render without a screen, once for each process.

    Raises:
        MissingExtraError: MuJoCo is not installed.
        InputError: the libraries that it renders with are missing: which, and how to get them.
    """
    require_extra("mujoco", "sim", "Rendering SimKitchen")
    if sys.platform != "linux":
        return  # MuJoCo brings what it needs
    wanted = os.environ.get("MUJOCO_GL")
    found = [name for name, library in BACKENDS.items() if ctypes.util.find_library(library)]
    if wanted is None and not found:
        raise InputError(missing("neither libEGL nor libOSMesa is on this machine"))
    if wanted in BACKENDS and wanted not in found:
        raise InputError(missing(f"MUJOCO_GL={wanted} needs lib{BACKENDS[wanted]}, which is not on this machine"))
    if wanted is None:
        os.environ["MUJOCO_GL"] = found[0]
    os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa: processes are the parallelism


def missing(what: str) -> str:
    """What to say, and what to install, where rendering doesn't work."""
    return (
        f"SimKitchen can't render: {what}. Install Mesa's software rendering, on Debian and Ubuntu "
        "'apt-get install libegl1 libgl1-mesa-dri', or 'apt-get install libosmesa6' and MUJOCO_GL=osmesa."
    )


@cache
def _gl_context(pixels: int) -> Any:
    """A current GL context; kept, since the driver compiles its shaders anew for each."""
    import mujoco

    try:
        context = mujoco.GLContext(pixels, pixels)
        context.make_current()
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        # A missing driver shows in many ways: say what was tried and what helps.
        raise InputError(missing(f"with MUJOCO_GL={os.environ.get('MUJOCO_GL')} it says: {error}")) from error
    return context


def _early(mujoco: Any) -> str:
    """What to do if MuJoCo was imported, and chose how to render, before this package could choose."""
    if not mujoco.GLContext.__module__.endswith("glfw"):
        return ""
    return (
        "MuJoCo renders by GLFW in this process, which needs a screen: MUJOCO_GL was not set when it was imported. Set "
        "MUJOCO_GL=egl, or osmesa, before the program starts, or import mujoco after SimKitchen has rendered."
    )


class Screen:
    """What renders one stage; to be used in a `with`.

    Args:
        stage: the scene.
        pixels: side of the pictures.
        hide_head: whether the camera is on the head.

    Raises:
        InputError: rendering doesn't work on this machine.
    """

    def __init__(self, stage: Stage, pixels: int, *, hide_head: bool) -> None:
        import mujoco

        set_up_rendering()
        _gl_context(pixels).make_current()
        self._mujoco: Any = mujoco
        self._stage = stage
        self._pixels = np.empty((pixels, pixels, 3), np.uint8)
        self._rect = mujoco.MjrRect(0, 0, pixels, pixels)
        self._scene = mujoco.MjvScene(stage.model, maxgeom=MAX_GEOMS)
        try:
            self._context = mujoco.MjrContext(stage.model, mujoco.mjtFontScale.mjFONTSCALE_50.value)
        except mujoco.FatalError as error:  # GLFW, without a screen, says nothing until now
            raise InputError(f"SimKitchen can't render: {error}. {_early(mujoco)}".rstrip()) from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._camera = mujoco.MjvCamera()
        self._camera.type, self._camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, 0
        self._options = mujoco.MjvOption()
        self._options.geomgroup[:] = 1
        self._options.geomgroup[HEAD_GROUP] = not hide_head

    def __enter__(self) -> Screen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.free()

    def picture(self, frame: Frame) -> NDArray[np.uint8]:
        """What a camera sees: `(H, W, 3)`, RGB."""
        self._render(frame)
        return self._pixels[::-1].copy()

    def share(self, frame: Frame, body: str) -> float:
        """How much of the picture shows a body, or one whose name begins with it and a dot, from 0 to 1."""
        flags, mujoco, model = self._scene.flags, self._mujoco, self._stage.model
        coded = mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR
        for flag in coded:
            flags[flag] = 1
        self._render(frame)
        for flag in coded:
            flags[flag] = 0
        codes = self._pixels.astype(np.int64) @ (1, 256, 65536)  # a drawn geom's number, from 1; 0 for none
        wanted = []
        for geom in self._scene.geoms[: self._scene.ngeom]:
            owner = model.body(model.geom_bodyid[geom.objid]).name
            if geom.segid >= 0 and (owner == body or owner.startswith(f"{body}.")):
                wanted.append(geom.segid + 1)
        return float(np.isin(codes, wanted).mean())

    def _render(self, frame: Frame) -> None:
        mujoco, model, data = self._mujoco, self._stage.model, self._stage.data
        model.cam_fovy[0] = frame.field
        data.cam_xpos[0] = frame.at
        data.cam_xmat[0] = frame.turned.ravel()
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(model, data, self._options, None, self._camera, everything, self._scene)
        mujoco.mjr_render(self._rect, self._scene, self._context)
        mujoco.mjr_readPixels(self._pixels, None, self._rect, self._context)
