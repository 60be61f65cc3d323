"""The server of the page in studio/: messages in JSON to requests, jams and files, and back.

Not here: what is played and how (utils.playing). Leans on playing and all below it.
"""
