package gvisor

import (
	"embed"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"unsafe"

	"golang.org/x/sys/unix"

	"lambent"
)

// The two programs that make puts there: lambent-sandbox, which becomes gVisor,
// and lambent-init, which every container runs first.
//
//go:embed all:programs
var programs embed.FS

// openProgram opens one of the programs: the file at chosen or, if that is empty,
// the one built in.
func openProgram(name, chosen string) (f fs.File, err error) {
	if chosen != "" {
		f, err = os.Open(chosen)
	} else {
		f, err = programs.Open("programs/" + name)
	}
	if err != nil {
		return nil, &lambent.Error{Op: "load", Resource: name, Kind: lambent.KindUnavailable,
			Message: "this executable was built without it, and no sandbox starts without it; build with make, not with go build", Err: err}
	}
	return f, nil
}

// placeProgram writes a program to path, which is not there yet.
func placeProgram(f fs.File, path string) error {
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o555)
	if err != nil {
		return fmt.Errorf("place program: %w", err)
	}
	_, err = io.Copy(to, f)
	if cerr := to.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("place program %s: %w", path, err)
	}
	dropPages(f)
	return nil
}

// dropPages gives back the memory that an embedded file took by being read: it is
// a part of this executable, which the kernel would count as this process's own
// from then on, for nothing. What is read again comes back by itself. Where embed
// does not look as it did, nothing is given back.
func dropPages(f fs.File) {
	v := reflect.Indirect(reflect.ValueOf(f))
	for _, name := range []string{"f", "data"} {
		if v.Kind() != reflect.Struct {
			return
		}
		v = reflect.Indirect(v.FieldByName(name))
	}
	if !v.IsValid() || v.Kind() != reflect.String {
		return
	}
	data := v.String()
	page := os.Getpagesize()
	skip := -int(uintptr(unsafe.Pointer(unsafe.StringData(data)))) & (page - 1)
	whole := (len(data) - skip) / page * page // pages that hold nothing else
	if whole <= 0 {
		return
	}
	_ = unix.Madvise(unsafe.Slice(unsafe.StringData(data[skip:]), whole), unix.MADV_DONTNEED) // advice
}
