-- How Argo CD judges an Application that another one holds: without this, it does not, and an app of apps does not wait
-- between its waves. An Application is done when its last sync succeeded and what it holds is healthy. One that brings
-- nothing new, as all was there when it was made, is never synced.
local status = obj.status or {}
local health, last = status.health or {}, status.operationState
if last == nil then
  local nothing_new = status.sync ~= nil and status.sync.status == "Synced"
  last = { phase = nothing_new and "Succeeded" or "Running", message = "it has not been synced yet" }
end
if last.phase == "Failed" or last.phase == "Error" then
  return { status = "Degraded", message = last.message }
end
if last.phase ~= "Succeeded" or health.status == nil then
  return { status = "Progressing", message = last.message }
end
return { status = health.status, message = health.message }
