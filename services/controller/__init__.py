"""The controller decides how each request is decoded and learns from feedback.

`decision` turns features and the user's own values into a plan, by the
parameters of `policy` inside the bounds of `envelope`; `steering` revises a
running request; `learning` turns one piece of feedback into better parameters.
All of these are pure. `server`, `recorder`, `watcher` and `store`
join them to gRPC and Redis, `tasks` to Celery.
"""
