package main

import (
	"fmt"
	"os"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// The messages of systemd's Type=notify-reload (sd_notify(3)). Without systemd they go nowhere.

func notifyReady() {
	_, _ = daemon.SdNotify(false, fmt.Sprintf("%s\nMAINPID=%d", daemon.SdNotifyReady, os.Getpid()))
}

// notifyMain names another main process.
func notifyMain(pid int) { _, _ = daemon.SdNotify(false, fmt.Sprintf("MAINPID=%d", pid)) }

func notifyStopping() { _, _ = daemon.SdNotify(false, daemon.SdNotifyStopping) }

// notifyReloading begins a reload, which notifyReady ends. systemd wants to know when, by the clock
// that the time package does not show.
func notifyReloading() {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) == nil {
		_, _ = daemon.SdNotify(false, fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, ts.Nano()/1000))
	}
}
