"""What was aimed at beside what was reached."""

from dataclasses import dataclass

from benchmarks.measure import CellResult, Entry
from benchmarks.peers import TIDEGATE
from benchmarks.plan import CONTROL, GROWTHS, OWN, Growth, Measure, Target


@dataclass(frozen=True)
class Reached:
    """figure: what `limit` bounds, in words. value: None when it was not measured. others: the peers' own figures."""

    name: str
    title: str
    figure: str
    limit: float
    value: float | None
    others: dict[str, float]

    @property
    def met(self) -> bool | None:
        return None if self.value is None else self.value <= self.limit


def ratio(ours: Entry | None, theirs: Entry | None, measure: Measure) -> float | None:
    """What we use of what they use: below 1 is cheaper."""
    if ours is None or theirs is None:
        return None
    mine, other = ours.median(measure), theirs.median(measure)
    return None if mine is None or not other else mine / other


def reached(results: list[CellResult]) -> list[Reached]:
    """One for each target of the cells that were measured, then the growths."""
    found = [_of_cell(result, target) for result in results for target in result.cell.targets]
    measured = {result.cell.name: result for result in results}
    whole = [growth for growth in GROWTHS if growth.large in measured and growth.small in measured]
    return found + [_of_growth(growth, measured) for growth in whole]


def growth_of(growth: Growth, measured: dict[str, CellResult], peer: str) -> float | None:
    """How much more an operation costs `peer` in the larger cell; None when one of the two was not measured."""
    if growth.large not in measured or growth.small not in measured:
        return None
    large, small = measured[growth.large], measured[growth.small]
    return ratio(large.entries.get(peer), small.entries.get(peer), large.cell.measures[0])


def _of_cell(result: CellResult, target: Target) -> Reached:
    cell = result.cell
    measure = cell.measures[0]
    ours = result.entries.get(TIDEGATE)
    others: dict[str, float] = {}
    if target.against == OWN:
        figure = measure.unit
        value = ours.median(measure) if ours else None
        others = _present({name: entry.median(measure) for name, entry in result.entries.items() if name != TIDEGATE})
    elif target.against == CONTROL:
        figure = f"÷ own {cell.control}"
        value = ratio(ours, result.control, measure)
    else:
        figure = f"÷ {target.against}"
        value = ratio(ours, result.entries.get(target.against), measure)
    return Reached(cell.name, cell.title, figure, target.limit, value, others)


def _of_growth(growth: Growth, measured: dict[str, CellResult]) -> Reached:
    peers = [name for name in measured[growth.large].entries if name != TIDEGATE]
    return Reached(
        growth.name,
        growth.title,
        "÷ itself at 100",
        growth.limit,
        growth_of(growth, measured, TIDEGATE),
        _present({peer: growth_of(growth, measured, peer) for peer in peers}),
    )


def _present(figures: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if value is not None}
