package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// maxSecret is more than Key Vault takes.
const maxSecret = 64 << 10

func secret(f *folder) *cobra.Command {
	var contentType string
	var disable bool
	command := &cobra.Command{
		Use:   "secret --dir DIR NAME [FILE...]",
		Short: "Put a secret into the Key Vault, from files or standard input",
		Long: `secret adds a version to a secret of the sandbox's Key Vault and prints the version. Several
files are put behind each other, as the key and the chain of a certificate are.`,
		Example: `  amlaks-sandbox secret --dir DIR db-password < password.txt
  amlaks-sandbox secret --dir DIR score key.pem chain.pem --content-type application/x-pem-file
  amlaks-sandbox secret --dir DIR score --disable`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			value, err := "", error(nil)
			if !disable {
				if value, err = content(command.InOrStdin(), args[1:]); err != nil {
					return err
				}
			}
			client, err := f.connect(command)
			if err != nil {
				return err
			}
			version, err := client.PutSecret(command.Context(), args[0], value, contentType)
			if err != nil {
				return err
			}
			fmt.Fprintln(command.OutOrStdout(), version)
			return nil
		},
	}
	command.Flags().StringVar(&contentType, "content-type", "", "application/x-pem-file or application/x-pkcs12 for a certificate")
	command.Flags().BoolVar(&disable, "disable", false, "disable the newest version instead")
	return command
}

// content is that of the files, or of standard input if there is none.
func content(in io.Reader, names []string) (string, error) {
	var all []byte
	for _, name := range names {
		file, err := os.Open(name)
		if err != nil {
			return "", err
		}
		text, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
		if err = errors.Join(err, file.Close()); err != nil {
			return "", err
		}
		all = append(all, text...)
	}
	if len(names) == 0 {
		text, err := io.ReadAll(io.LimitReader(in, maxSecret+1))
		if err != nil {
			return "", err
		}
		all = text
	}
	if len(all) == 0 || len(all) > maxSecret {
		return "", fmt.Errorf("a secret has 1 to %d bytes, and this has %d", maxSecret, len(all))
	}
	return string(all), nil
}
