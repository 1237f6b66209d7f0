"""Raw requests as data, with what a server must make of them; `cases/README.md` says how they are written."""
