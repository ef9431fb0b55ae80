package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/client"
)

// connectExample stands for client.New with the address of your server.
func connectExample() (*client.Client, func()) {
	mux := http.NewServeMux()
	reply := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"splgct3arqdh77c-3"`)
			w.Header().Set("Purser-Usage-State", "complete")
			answer(w, status, body)
		}
	}
	mux.HandleFunc("GET /v1/storage-providers", reply(http.StatusOK, `{"hasMore":false,"items":[`+providerJSON+`,`+bareProviderJSON+`],"nextPage":null}`))
	mux.HandleFunc("POST /v1/storage-providers", reply(http.StatusOK, providerJSON))
	mux.HandleFunc("GET /v1/storage-providers/splgct3arqdh77c", reply(http.StatusOK, providerJSON))
	mux.HandleFunc("PUT /v1/storage-providers/splgct3arqdh77c", reply(http.StatusPreconditionFailed, `{"code":"PRECONDITION_FAILED","message":"It has changed since you read it."}`))
	mux.HandleFunc("GET /v1/storage-providers/malformed", reply(http.StatusNotFound, `{"code":"NOT_FOUND","message":"No storage provider with this id exists in your team."}`))
	mux.HandleFunc("GET /v1/storage-providers/utilization", reply(http.StatusOK, `{"datasetUsage":"1073741824","modelUsage":"0","notebookWorkspaceUsage":"0",
		"remainingFreeStorage":"4294967296","sharedStorageUsage":"0","totalFreeStorage":"5368709120","totalUsage":"1073741824"}`))
	mux.HandleFunc("POST /v1/scans", reply(http.StatusOK, scanJSON))
	mux.HandleFunc("GET /v1/scans/scn000000000001", reply(http.StatusOK, scanJSON))
	server := httptest.NewServer(mux)
	c, err := client.New(client.Config{URL: server.URL, APIKey: purser.NewSecret("psr_…")})
	if err != nil {
		log.Fatal(err)
	}
	return c, server.Close
}

func ExampleNew() {
	c, err := client.New(client.Config{
		URL:    "https://purser.example.com",
		APIKey: purser.NewSecret("psr_…"),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.URL())
	// Output: https://purser.example.com
}

func ExampleClient_EachProvider() {
	c, done := connectExample()
	defer done()

	for p, err := range c.EachProvider(context.Background(), client.ListOptions{}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(p.ID, p.Name, p.S3.Bucket)
	}
	// Output:
	// splgct3arqdh77c Training data training-data
	// splgct3arqdh77d Managed managed
}

func ExampleClient_CreateProvider() {
	c, done := connectExample()
	defer done()

	p, _, err := c.CreateProvider(context.Background(), purser.ProviderDraft{
		Name: "Training data",
		S3: purser.S3Config{
			Endpoint:  "https://s3.example.com",
			Bucket:    "training-data",
			AccessKey: "AKIAIOSFODNN7EXAMPLE",
		},
		Secret: purser.NewSecret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(p.ID)
	// Output: splgct3arqdh77c
}

// Change a provider only if nobody else did in the meantime.
func ExampleIfMatch() {
	c, done := connectExample()
	defer done()
	ctx := context.Background()

	p, tag, err := c.GetProvider(ctx, "splgct3arqdh77c")
	if err != nil {
		log.Fatal(err)
	}
	draft := purser.ProviderDraft{Name: "Corpora", TeamDefault: p.TeamDefault, S3: p.S3}
	_, _, err = c.UpdateProvider(ctx, p.ID, draft, client.IfMatch(tag))
	if client.IsChanged(err) {
		fmt.Println("read it again:", err)
	}
	// Output: read it again: It has changed since you read it.
}

func ExampleClient_WaitScan() {
	c, done := connectExample()
	defer done()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()

	started, err := c.StartScan(ctx, "splgct3arqdh77c")
	if err != nil {
		log.Fatal(err)
	}
	ended, err := c.WaitScan(ctx, started.ID, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ended.State, ended.Objects, "objects")
	// Output: done 3 objects
}

func ExampleClient_Utilization() {
	c, done := connectExample()
	defer done()

	u, err := c.Utilization(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s used, %s left, %s\n", u.Total().Human(), u.RemainingFreeStorage().Human(), u.State)
	// Output: 1.0 GiB used, 4.0 GiB left, complete
}

func ExampleError() {
	c, done := connectExample()
	defer done()

	_, _, err := c.GetProvider(context.Background(), "unknown")
	var e *client.Error
	if errors.As(err, &e) {
		fmt.Println(e.Status, e.Code, e.Message)
	}
	// Output: 404 NOT_FOUND No storage provider with this id exists in your team.
}
