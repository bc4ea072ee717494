"""Tidal features from test particles (Toomre & Toomre 1972, ApJ 178, 623).

Particles without mass move by leapfrog in the pull of a host galaxy, which stays at the origin, and of one other galaxy
that passes or falls in. A dwarf on a nearly radial orbit leaves shells (Quinn 1984, ApJ 279, 596), one on a rounder
orbit a stream, and the disc of a host that is passed in the sense of its rotation grows tails. Nothing here knows of
pixels, bands or magnitudes: see `tidalkin.simulation.scene`.

Units: the host's half-light radius, the speed of its circular orbits far out, and the time that follows from both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

Feature = Literal["stream", "shell", "tail"]
FEATURES: tuple[Feature, ...] = ("stream", "shell", "tail")

PARTICLES = 4096
TIME_STEP = 0.1  # a hundredth or less of the periods that matter; the core is crossed in several steps
DISC_EDGE = 3.0  # half-light radii: where the disc that is pulled apart ends

Vectors = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Debris:
    """The places of a feature's light."""

    positions: npt.NDArray[np.float32]
    """(3, particle), half-light radii of the host."""
    weights: npt.NDArray[np.float32]
    """(particle,) shares of the light, not normalised."""


def simulate(feature: Feature, rng: np.random.Generator) -> Debris:
    """Simulate one encounter, with its orbit, masses and age drawn at random.

    Parameters
    ----------
    feature : {"stream", "shell", "tail"}
        Kind of the feature. A stream and shells are in a random place around the host. The host's disc, from which
        tails are drawn, lies in the plane z = 0.
    rng : numpy.random.Generator
        The source of randomness.

    Examples
    --------
    >>> debris = simulate("tail", np.random.default_rng(1))
    >>> debris.positions.shape
    (3, 4096)
    """
    if feature == "tail":
        return _tails(rng)
    return _shells(rng) if feature == "shell" else _stream(rng)


# --- pulls and steps ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Host:
    """A logarithmic potential with a flat rotation curve (Binney & Tremaine 2008, eq. 2.71a)."""

    core: float = 0.3
    flattening: float = 1.0

    def pull(self, positions: Vectors) -> Vectors:
        pull = positions * np.array([[1], [1], [1 / self.flattening**2]], positions.dtype)
        pull *= -1 / (np.einsum("in,in->n", positions, pull) + self.core**2)
        return pull


def _galaxy_pull(offsets: Vectors, mass: float, scale: float) -> Vectors:
    """Compute the acceleration towards a Plummer sphere (Binney & Tremaine 2008, eq. 2.44a)."""
    inverse = 1 / (np.einsum("in,in->n", offsets, offsets) + scale**2)
    return offsets * (-mass * inverse * np.sqrt(inverse))


@dataclass(frozen=True)
class _Intruder:
    """The other galaxy: a Plummer sphere that may dissolve."""

    mass: float
    scale: float
    whole_until: float = 0.0
    """Time up to which it keeps its mass."""
    lifetime: float = np.inf
    """Time in which its mass then falls by a factor of e; below a hundredth it counts as gone."""

    def mass_at(self, time: float) -> float:
        mass = self.mass * np.exp(-max(time - self.whole_until, 0.0) / self.lifetime)
        return float(mass) if mass > 0.01 * self.mass else 0.0


def _integrate(
    bodies: Vectors, velocities: Vectors, host: _Host, intruder: _Intruder, duration: float
) -> tuple[Vectors, Vectors]:
    """Integrate by leapfrog (kick-drift-kick, with neighbouring half kicks joined).

    Parameters
    ----------
    bodies, velocities : (3, 1 + particle) arrays
        The intruder first, then the particles.
    host, intruder : _Host, _Intruder
        The two bodies that attract.
    duration : float
        Time to integrate over; backwards if negative.

    Returns
    -------
    positions, velocities : (3, 1 + particle) arrays
    """
    steps = max(1, round(abs(duration) / TIME_STEP))
    step = duration / steps

    def pull(positions: Vectors, time: float) -> Vectors:
        acceleration = host.pull(positions)
        mass = intruder.mass_at(time)
        if mass:
            centre = positions[:, :1]
            acceleration += _galaxy_pull(positions - centre, mass, intruder.scale)
            acceleration += _galaxy_pull(centre, mass, intruder.scale)  # the host, at the origin, is pulled as well
        return acceleration

    positions = bodies.copy()
    velocities = velocities + pull(positions, 0.0) * (step / 2)
    for number in range(1, steps + 1):
        positions += velocities * step
        velocities += pull(positions, number * step) * (step if number < steps else step / 2)
    return positions, velocities


# --- three kinds of encounter ------------------------------------------------------------------------------------


def _stars(rng: np.random.Generator, dwarf: _Intruder) -> tuple[Vectors, Vectors]:
    """Draw positions and velocities of a dwarf's stars about its centre.

    They are a Plummer sphere that holds 85 % of its light.
    """
    radius = dwarf.scale / np.sqrt(rng.uniform(0.0, 0.85, PARTICLES) ** (-2 / 3) - 1)
    dispersion = np.sqrt(dwarf.mass / (6 * dwarf.scale))  # in the middle: Binney & Tremaine 2008, eq. 4.94
    directions = rng.standard_normal((3, PARTICLES))
    positions = directions / np.linalg.norm(directions, axis=0) * radius
    return positions.astype(np.float32), (dispersion * rng.standard_normal((3, PARTICLES))).astype(np.float32)


def _fall(
    rng: np.random.Generator, host: _Host, dwarf: _Intruder, apocentre: float, tangential: float, duration: float
) -> Vectors:
    """Follow the stars of a dwarf from its apocentre on.

    The orbit begins along x, in the plane of x and y.
    """
    positions, velocities = _stars(rng, dwarf)
    positions[0] += apocentre
    velocities[1] += tangential
    centre = np.array([[apocentre], [0], [0]], np.float32)
    motion = np.array([[0], [tangential], [0]], np.float32)
    bodies, _ = _integrate(np.hstack([centre, positions]), np.hstack([motion, velocities]), host, dwarf, duration)
    return bodies[:, 1:]


def _seen_from(rng: np.random.Generator, tilt: float) -> Rotation:
    """Draw a random view of an orbit in the plane of x and y.

    Its normal is ``tilt`` radians off the line of sight.
    """
    return Rotation.from_euler("zxz", [rng.uniform(0, 2 * np.pi), tilt, rng.uniform(0, 2 * np.pi)])


def _shells(rng: np.random.Generator) -> Debris:
    apocentre = rng.uniform(4.0, 6.0)
    # It comes apart at its first passage of the centre, 1.25 apocentres after the start, where its stars differ most in
    # energy: shells at many radii.
    dwarf = _Intruder(rng.uniform(0.02, 0.06), rng.uniform(0.25, 0.5), whole_until=1.2 * apocentre, lifetime=0.3)
    # A wide core turns the orbits of stars with little angular momentum less: shells of a limited opening.
    host = _Host(core=rng.uniform(1.0, 1.5), flattening=rng.uniform(0.9, 1.0))
    positions = _fall(rng, host, dwarf, apocentre, rng.uniform(0.02, 0.08), duration=apocentre * rng.uniform(5.0, 12.0))
    # Turned about the orbit's axis x first, then tipped to the line of sight: shells seen end-on are not seen as such.
    view = Rotation.from_euler("xyz", [rng.uniform(0, 2 * np.pi), rng.uniform(-0.8, 0.8), rng.uniform(0, 2 * np.pi)])
    return _debris(view, positions)


def _stream(rng: np.random.Generator) -> Debris:
    apocentre = rng.uniform(3.5, 5.5)
    duration = apocentre * rng.uniform(5.0, 11.0)
    dwarf = _Intruder(rng.uniform(0.01, 0.04), rng.uniform(0.12, 0.25), lifetime=duration * rng.uniform(0.1, 0.25))
    host = _Host(flattening=rng.uniform(0.85, 1.0))
    positions = _fall(rng, host, dwarf, apocentre, rng.uniform(0.45, 0.95), duration)
    return _debris(_seen_from(rng, tilt=np.arccos(rng.uniform(0.1, 1.0))), positions)


def _debris(view: Rotation, positions: Vectors) -> Debris:
    turned = (view.as_matrix() @ positions).astype(np.float32)
    return Debris(turned, np.ones(positions.shape[1], np.float32))


def _tails(rng: np.random.Generator) -> Debris:
    radius = DISC_EDGE * np.sqrt(rng.uniform(0.15, 1.0, PARTICLES))
    azimuth = rng.uniform(0, 2 * np.pi, PARTICLES)
    height = 0.05 * rng.standard_normal(PARTICLES)
    disc = np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), height]).astype(np.float32)
    host = _Host()
    speed = radius / np.sqrt(radius**2 + host.core**2)
    motion = np.stack([-speed * np.sin(azimuth), speed * np.cos(azimuth), np.zeros(PARTICLES)]).astype(np.float32)

    intruder = _Intruder(mass=rng.uniform(0.4, 1.2), scale=rng.uniform(0.4, 0.8))
    nearest = rng.uniform(3.2, 4.8)
    # Prograde: round the host as its disc turns; somewhat out of its plane.
    inclination = rng.uniform(-0.6, 0.6)
    start = np.array([[nearest], [0], [0]], np.float32)
    fast = rng.uniform(1.2, 1.6) * np.sqrt(1 + intruder.mass / nearest)
    pace = np.array([[0], [fast * np.cos(inclination)], [fast * np.sin(inclination)]], np.float32)
    before = 6.0
    far, incoming = _integrate(start, pace, host, intruder, -before)
    bodies, _ = _integrate(
        np.hstack([far, disc]), np.hstack([incoming, motion]), host, intruder, before + rng.uniform(5.0, 11.0)
    )
    positions = Rotation.from_euler("z", rng.uniform(0, 2 * np.pi)).as_matrix() @ bodies[:, 1:]
    # Exponential disc. Particles that are still inside the disc belong to the host, not to the feature.
    outside = np.clip(np.linalg.norm(positions, axis=0) / DISC_EDGE - 0.6, 0, 0.4) / 0.4
    weights = outside * np.exp(-radius / 1.7)
    return Debris(positions.astype(np.float32), weights.astype(np.float32))
