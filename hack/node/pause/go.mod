module proxmox-operator.io/hack/node/pause

go 1.26
