"""Inference by an engine that users already run: any server with OpenAI's REST interface.

    conversation -> Generation -> Upstream (HTTP, server-sent events)
                        `-> outcomes (accounts to the controller)

The mesh around it is the same: features, decision, tenants, feedback. What the
engine behind cannot do is said by `DescribeModel` and refused where it is
asked for, never dropped in silence: what is really used comes back in
`ParametersApplied`.
"""
