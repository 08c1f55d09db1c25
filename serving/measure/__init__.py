"""What each model takes of memory, measured from outside: process (what Linux says of a process),
load (a scripted load over HTTP), servers (a server as a process), sessions (a process that creates
sessions and nothing else), measurement (runs of one model -> its entry), and __main__, the
command that writes the file.
"""
