"""Appliers with their settings. Only the apply process, and a person who previews, opens these."""

from collections.abc import Iterable

from pipeline.startup.compose import Shop
from workcells.appliers import Applier, open_applier


def opened(shop: Shop, names: Iterable[str]) -> dict[str, Applier]:
    """Return the appliers of these names, each with the settings that it needs. Raises BadSetting when one is missing."""
    return {name: _open(shop, name) for name in sorted(set(names))}


def _open(shop: Shop, name: str) -> Applier:
    settings = shop.settings
    if name == "tracker":
        return open_applier(name, folder=shop.tracker_dir)
    if name == "demo":
        return open_applier(name, folder=shop.demo_tracker_dir)
    if name == "github":
        token = settings.github_token.reveal() if settings.github_token else ""
        return open_applier(name, url=settings.github_url, token=token)
    return open_applier(name)
