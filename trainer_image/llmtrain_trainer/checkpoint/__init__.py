"""Checkpoints that can be trusted: shards, digests, a manifest, and COMMIT last.

A rank writes its shards to local disk (`writer`, the one module here that imports torch). The agent of its node uploads them (`uploader`)
to a store of files or objects (`store`). Who resumes reads only what was committed and verifies (`restore`).

    <destination>/step-00000200-a0-r1/begin.json       node 0 has chosen to upload this save
                                      __0_0.distcp ... .metadata
                                      node-<i>.json    sizes and digests of node i's files
                                      manifest.json    the union, with step, mesh and hashes
                                      COMMIT           the digest of manifest.json; absent: this is no checkpoint
"""
