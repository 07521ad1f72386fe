package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every test that the README names as the proof of a promise exists in the folder that it names.
func TestPromisesHaveTests(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n## Promises and their tests\n")
	table, _, _ = strings.Cut(table, "\n## ")
	folder, n := "", 0
	for _, word := range regexp.MustCompile("`[a-z/0-9]+` Test|Test[A-Z]\\w+").FindAllString(strings.ReplaceAll(table, "` Test", "` Test Test"), -1) {
		if name, ok := strings.CutSuffix(word, "` Test"); ok {
			folder = strings.TrimPrefix(name, "`")
			continue
		}
		n++
		files, err := filepath.Glob(filepath.Join("../..", folder, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			found = found || strings.Contains(string(source), "func "+word+"(")
		}
		if !found {
			t.Errorf("there is no %s in %s", word, folder)
		}
	}
	if n < 40 {
		t.Errorf("%d tests are named: the check itself is broken", n)
	}
}
