-- How Argo CD judges the objects of proxmox-operator. Every kind has the conditions that this goes by, so it is one
-- script for all of them. It sees no object that is being deleted: those Argo CD itself calls Progressing.
local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end

local function is(type)
  return conditions[type] ~= nil and conditions[type].status == "True"
end

local function is_old(generation)
  return generation ~= nil and generation < obj.metadata.generation
end

if is("Paused") then
  return { status = "Suspended", message = conditions.Paused.message }
end
local ready = conditions.Ready
if ready == nil then
  return { status = "Progressing", message = "proxmox-operator has not looked at it yet" }
end
local said = ready.reason .. ": " .. ready.message
if is_old(status.observedGeneration) or is_old(ready.observedGeneration) then
  return { status = "Progressing", message = "the newest change has not been acted on yet; last: " .. said }
end
if is("Stalled") then
  return { status = "Degraded", message = said }
end
if is("Reconciling") or ready.status ~= "True" then
  return { status = "Progressing", message = said }
end
return { status = "Healthy", message = said }
