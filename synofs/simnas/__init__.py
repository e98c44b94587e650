"""A simulated Synology NAS: the File Station web API over real directories, in a process of its own.

It is the only NAS that most contributors have, so it is as strict and as odd as the evidence about DSM allows.
`python -m synofs.simnas --help` is its manual: shares, accounts, limits, quirks, faults, counters. It imports
nothing else of synofs: client and simulator read the same facts with different eyes.

    __main__, options, quirks, seed      the command line and what it chooses
    server, connection, control          the process, its connections, and `/_simnas/`
    webapi, wire, catalogue, strike      from an HTTP request to a method and back, with faults applied
    nas                                  the whole NAS, and one call to it
    sessions, totp                       who may call
    shares, directory, records, volume   paths, rights, names, records, space
    tasks, faults, stats, bandwidth      background tasks, scripted faults, counters, a slow link
    api/                                 the methods, one module per family of APIs

What a real NAS has and this one has not:

- ACLs: rights come from the share, the account and the owner bits on disk (see `shares`).
- Creation times: `crtime` is taken by Upload and lost; the earliest of mtime and ctime is shown.
- 7z, encrypted archives: Compress answers 1300.
- Methods of which only the name is known: 103, or the code they give without arguments.
- SYNO.API.Encryption, Auth.resume, DSM 5.
"""
