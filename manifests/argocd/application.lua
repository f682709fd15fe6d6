-- How Argo CD judges an Application that another one holds: without this, it does not, and an app of apps does not wait
-- between its waves. An Application is done when its last sync succeeded and what it holds is healthy.
local status = obj.status or {}
local sync = status.operationState or { phase = "Running", message = "it has not been synced yet" }
if sync.phase == "Failed" or sync.phase == "Error" then
  return { status = "Degraded", message = sync.message }
end
local health = status.health or {}
if sync.phase ~= "Succeeded" or health.status == nil then
  return { status = "Progressing", message = sync.message }
end
return { status = health.status, message = health.message }
