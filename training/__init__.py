"""How a LuminaNet grows: train, mutate, keep or revert, freeze.

Reading order:

    topologies   where runs start
    config       every choice of a run; stored: as it is kept; presets: named ones
    precision    what products are computed in
    data/        data sets -> batches
    model/       the network that learns
    step/        one training step and its state
    evolution/   how the network changes itself
    torch_files  what lies in torch's files, whole or not there
    checkpoint   network <-> ckpt.pt, which export reads
    run/         a whole run, with evolution and resuming
    train        the command line
    baselines/   what LuminaNet is compared with
    analysis/    what came of it
"""
