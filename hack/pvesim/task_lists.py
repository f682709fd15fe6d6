"""Tasks as the API shows them: the lists, one task's status and log, and the call that stops it.

Facts: PVE::API2::Tasks and cluster/tasks of PVE::API2::Cluster (pve-manager 9.2.11).
"""

from typing import Any

from .core import Values, param_error
from .tasks import Task, Tasks

FINISHED_PER_NODE = 25


class TaskLists(Tasks):
    """GET cluster/tasks; GET nodes/{node}/tasks; GET status and log of a task, DELETE it."""

    def tasks_of(self, node: str, source: str) -> list[Task]:
        """The tasks of a node, newest first; source is active, archive or all."""
        active = [task for task in self.running.values() if task.node == node]
        found = (active if source != "archive" else []) + (
            list(self.archive[node]) if source != "active" else []
        )
        return sorted(found, key=lambda task: -task.pid)

    @staticmethod
    def owns(user: str, task: Task) -> bool:
        """A token sees its own tasks; a user sees its own and those of its tokens."""
        return user in (task.user, task.user.partition("!")[0])

    def _table_tasks(self) -> list[tuple[str, str, Any]]:
        one = "/nodes/{node}/tasks/{upid}"
        return [
            ("GET", "/cluster/tasks", self._cluster_tasks),
            ("GET", "/nodes/{node}/tasks", self._node_tasks),
            ("GET", one + "/status", self._task_status_get),
            ("GET", one + "/log", self._task_log_get),
            ("DELETE", one, self._task_stop),
        ]

    async def _cluster_tasks(self, v: Values, user: str) -> list[Values]:
        everything = self.allowed(user, "/", "Sys.Audit")
        out = []
        for node in sorted(self.nodes):
            recent = self.tasks_of(node, "active") + self.tasks_of(node, "archive")[:FINISHED_PER_NODE]
            for task in recent:
                # The list compares the user without the token, so a token sees nothing without Sys.Audit on
                # /.
                if everything or task.user.partition("!")[0] == user:
                    done = {} if task.running else {"endtime": task.endtime, "status": task.exitstatus}
                    out.append(task.public() | {"saved": "0" if task.running else "1"} | done)
        return sorted(out, key=lambda item: -item["starttime"])

    async def _node_tasks(self, v: Values, user: str) -> list[Values]:
        audit = self.allowed(user, f"/nodes/{v['node']}", "Sys.Audit")
        out = []
        for task in self.tasks_of(v["node"], v.get("source") or "archive"):
            failed = not task.running and task.exitstatus != "OK"
            if (
                (audit or self.owns(user, task))
                and (not v.get("typefilter") or task.type == v["typefilter"])
                and (v.get("vmid") is None or task.id == str(v["vmid"]))
                and task.starttime >= v.get("since", 0)
                and task.starttime <= v.get("until", task.starttime)
                and v.get("userfilter", "").lower() in task.user.lower()
                and (not v.get("errors") or failed)
            ):
                state = (
                    {"status": "RUNNING"}
                    if task.running
                    else {"status": task.exitstatus, "endtime": task.endtime}
                )
                out.append(task.public() | state)
        start = v.get("start", 0)
        return out[start : start + v.get("limit", 50)]

    def _task_for(self, v: Values, user: str, priv: str) -> Task:
        if not v["upid"].startswith("UPID:") or v["upid"].count(":") < 8:
            raise param_error(upid="unable to parse worker upid")
        task = self.by_upid.get(v["upid"])
        if task is None:
            raise param_error(upid="no such task")
        if not self.owns(user, task):
            self.require(user, f"/nodes/{v['node']}", priv)
        return task

    async def _task_status_get(self, v: Values, user: str) -> Values:
        task = self._task_for(v, user, "Sys.Audit")
        state = (
            {"status": "running"} if task.running else {"status": "stopped", "exitstatus": task.exitstatus}
        )
        return task.public() | state

    async def _task_log_get(self, v: Values, user: str) -> list[Values]:
        task = self._task_for(v, user, "Sys.Audit")
        start, limit = v.get("start", 0), v.get("limit", 50)
        lines = [{"n": number, "t": line} for number, line in enumerate(task.log, 1)]
        return lines[start : start + limit] if limit else lines[start:]

    async def _task_stop(self, v: Values, user: str) -> None:
        self.interrupt_task(self._task_for(v, user, "Sys.Modify").upid)
