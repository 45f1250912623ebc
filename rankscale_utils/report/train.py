"""What the page 1_train shows of a run."""

import pandas as pd
from IPython.display import HTML
from matplotlib.axes import Axes

from rankscale_utils.study.ledger import own_end

from . import figures, tables


def facts_table(ledger: dict) -> HTML:
    """Return what a run is: size, learning rate, cost, hardware."""
    hardware = ledger["hardware"]
    return tables.facts(
        status=ledger["status"],
        objective=ledger["objective"],
        rung=f"{ledger['rung']}, seed {ledger['seed']}",
        **_annotated(ledger),
        **({"starts_from": ledger["start"]} if "start" in ledger else {}),
        **({"scored_by": ledger["scored_by"]} if "scored_by" in ledger else {}),
        parameters=f"{ledger['params']:,}, of which {ledger['params_non_embedding']:,} outside the embeddings",
        learning_rate=f"{ledger['learning_rate']:.3g}{_swept(ledger.get('sweep'))}",
        training_FLOPs_a_pair=f"{ledger['flops_per_pair']:,.0f}{_counted(ledger)}" if ledger["flops_per_pair"] else "–",
        speed=f"{ledger['pairs_per_second']:,.0f} pairs/s on {hardware['device']}, {hardware['threads']} thread(s)",
        padding=_padding(ledger),
    )


def _padding(ledger: dict) -> str:
    if ledger["padding"] is None:
        return "–"
    batches = f", in batches that are {ledger['batches']}" if "batches" in ledger else ""
    return f"{ledger['padding']:.1%} of the tokens computed{batches}"


def _annotated(ledger: dict) -> dict[str, str]:
    """Say who annotated a run's pairs, and how many, where it is not trained on the whole collection."""
    if not ledger["source"]:
        return {}
    return {"annotated_pairs": f"{ledger['annotations']:,}, {ledger['source'].replace('_', ' ')}"}


def _counted(ledger: dict) -> str:
    """Say how a rung's FLOPs compare with those of a counted pass, where that was counted."""
    share = ledger.get("flops_counted")
    return "" if share is None else f", {share:.3g} times those counted in a forward pass of its encoder"


def _swept(sweep: dict | None) -> str:
    """Say how a sweep chose the rate."""
    if not sweep:
        return ""
    losses = {factor: f"{loss:.4f}" if isinstance(loss, float) else loss for factor, loss in sweep["losses"].items()}
    tried = ", ".join(f"×{factor} {said}" for factor, said in losses.items())
    return f", the rule's times {sweep['factor']:g}, by the loss on held-out training queries: {tried}"


def checkpoints_table(ledger: dict) -> HTML:
    """Return the run's checkpoints, a row each, with the dev part's entropy where the run has one."""
    return tables.styled(
        pd.DataFrame(ledger["checkpoints"]),
        exposure="pairs|,.0f",
        queries="queries|,.0f",
        tokens="tokens|,.0f",
        flops="FLOPs|.3g",
        loss="cool-down loss|.4f",
        **({"dev": "dev entropy|.4f"} if ledger["source"] else {}),
    )


def loss_sentence(ledger: dict) -> str:
    """Say how far the loss fell."""
    if not ledger["checkpoints"]:
        return f"The run {ledger['status']}, before its first checkpoint."
    first, last = ledger["checkpoints"][0], ledger["checkpoints"][-1]
    ended = "" if ledger["status"] == "complete" else f" The run {ledger['status']}; no fit uses it."
    return (
        f"From {first['exposure']:,} to {last['exposure']:,} training pairs the {ledger['objective']} loss "
        f"{'fell' if last['loss'] < first['loss'] else 'did not fall: it went'} from {first['loss']:.3f} to "
        f"{last['loss']:.3f} nats.{ended}{_own_end(ledger['checkpoints'])}"
    )


def _own_end(checkpoints: list[dict]) -> str:
    """Say where a run that is trained to its own end has it."""
    if "dev" not in checkpoints[-1]:
        return ""
    best = own_end(checkpoints)
    return (
        f" Its own end is at {best['exposure']:,} pairs, where the contrastive entropy of the dev part is lowest: "
        f"{best['dev']:.4f} nats."
    )


def loss_curve(ledger: dict) -> Axes:
    """Training loss of the trunk (means of 20 steps) against training pairs; dots are the cooled-down checkpoints."""
    axes = figures.panel("Training loss", "training pairs seen", f"{ledger['objective']} loss, nats")
    curve, checkpoints = ledger["curve"], pd.DataFrame(ledger["checkpoints"])
    colour = figures.colour_of(ledger["objective"])
    axes.plot(curve["pairs"], curve["loss"], color=colour, lw=1, alpha=0.6)
    axes.plot(checkpoints["exposure"], checkpoints["loss"], "o", color=colour, ms=5, label="cool-down to a checkpoint")
    figures.log_axis(axes)
    axes.legend()
    return axes
