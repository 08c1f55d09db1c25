"""What evolution made: measures of a network, similarity of two, and a page that shows its history.

    ckpt.pt --checkpoint--> FrozenNet --measure--> Anatomy --lines--> text
    evolution.jsonl --read_events--> [Event] --replay--> History --build--> topology.html

anatomy and similarity measure, report prints, history and page draw. Everything between the files
is a pure function; the command line is `__main__.py`.
"""
