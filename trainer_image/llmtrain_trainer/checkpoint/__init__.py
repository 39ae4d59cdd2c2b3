"""Checkpoints that can be trusted: shards, digests, a manifest, and COMMIT last.

A rank writes its shards to local disk (`writer`, the only module here that imports torch). The agent of its node uploads them (`uploader`)
to a store of files or objects (`store`). A run that resumes reads committed checkpoints only, and verifies them (`restore`).

    <destination>/step-00000200-a0-r1/begin.json       node 0 has chosen to upload this save
                                      __0_0.distcp ... .metadata
                                      node-<i>.json    sizes and digests of node i's files
                                      manifest.json    the union, with step, mesh and hashes
                                      COMMIT           the digest of manifest.json; absent: this is no checkpoint
"""
