"""The key-value store where agents and ranks of a gang meet, for those alone who know the attempt's secret.

torch's TCPStore lets whoever reaches its port read, write and delete. This one asks for a proof first, in both directions, and speaks
plain bytes: nothing is unpickled. `server` runs on node 0; `client` is a torch Store for agents and ranks; `wire` is what both say.
`objects` restricts what ranks may send each other as objects over the connections that they make by it.

What it does not do: hide or sign what is said after the proof. Who can change packets between the nodes needs a network that prevents it.
"""
