// Argo CD's application controller and its repository server, as subcommands of one program: all that takes manifests from
// Git into a cluster. Its API server, web interface and the rest, which people look through, are left out.
package main

import (
	"os"

	"github.com/spf13/cobra"

	controller "github.com/argoproj/argo-cd/v3/cmd/argocd-application-controller/commands"
	reposerver "github.com/argoproj/argo-cd/v3/cmd/argocd-repo-server/commands"
)

func main() {
	root := &cobra.Command{Use: "argocd", SilenceUsage: true}
	root.AddCommand(controller.NewCommand(), reposerver.NewCommand())
	if err := root.Execute(); err != nil {
		os.Exit(1)
	}
}
