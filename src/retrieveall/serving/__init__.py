"""The HTTP service: ``retrieveall serve``, its client and its page.

server.py    binds, drains and stops          app.py       routes
gate.py      keys, hosts, limits, logs        schema.py    requests and responses
batching.py  the queue and the worker thread  archive.py   uploaded languages
memory.py    gives back what was freed        changes.py   languages that join and leave
client.py    needs httpx, but neither torch nor FastAPI
"""
