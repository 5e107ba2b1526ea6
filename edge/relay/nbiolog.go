package relay

import (
	"fmt"
	"log/slog"

	"github.com/lesismal/nbio/logging"
)

// nbioLog carries nbio's own complaints to the process's logger. nbio has one logger for the whole process, and without
// this prints every start and stop on stdout, which belongs to the program's results.
type nbioLog struct{}

func init() { logging.SetLogger(nbioLog{}) }

func (nbioLog) Debug(string, ...any) {}
func (nbioLog) Info(string, ...any)  {}

func (nbioLog) Warn(format string, v ...any) {
	slog.Default().Warn("nbio: " + fmt.Sprintf(format, v...))
}

func (nbioLog) Error(format string, v ...any) {
	slog.Default().Error("nbio: " + fmt.Sprintf(format, v...))
}
