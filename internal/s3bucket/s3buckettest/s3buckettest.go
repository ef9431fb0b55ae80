// Package s3buckettest gives tests S3 servers that are hostile, broken or
// strange: each Script is one way to answer, with what must come of it. The tests
// of package s3bucket walk the list with a single source, those of the whole
// program with scans.
//
// It is about what an answer looks like; correct servers with their many keys
// are for package canned and for s3servertest.
package s3buckettest

import (
	"net"
	"net/http"
	"sync/atomic"
)

// Canary is in much of what these servers send, and must never reach people.
const Canary = "canary"

// Complete says in a listing that nothing follows.
const Complete = "<IsTruncated>false</IsTruncated>"

// Listing wraps the inside of a listing.
func Listing(inside string) string {
	return `<?xml version="1.0" encoding="UTF-8"?>` + "\n" +
		`<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">` + inside + `</ListBucketResult>`
}

// Truncated is a listing that something follows.
func Truncated(inside string) string {
	return Listing("<IsTruncated>true</IsTruncated>" + inside)
}

// Token says in a listing how to go on.
func Token(s string) string { return "<NextContinuationToken>" + s + "</NextContinuationToken>" }

// Entry is one object of a listing.
func Entry(key, size string) string {
	return "<Contents><Key>" + key + "</Key><Size>" + size + "</Size></Contents>"
}

// Write answers with a document.
func Write(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }
}

// Status answers with a status, a document, and headers as name and value.
func Status(code int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}
}

// Error answers with an error as S3 has it.
func Error(code int, name string) http.HandlerFunc {
	return Status(code, "<Error><Code>"+name+"</Code><Message>"+Canary+" message</Message><Endpoint>"+Canary+".example</Endpoint></Error>")
}

// Hijack answers with whatever do writes to the connection, which it closes then.
func Hijack(do func(net.Conn)) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		do(conn)
	}
}

// Raw answers with bytes that need not be HTTP.
func Raw(answer string) http.HandlerFunc {
	return Hijack(func(c net.Conn) { _, _ = c.Write([]byte(answer)) })
}

// Reset breaks the connection off.
func Reset() http.HandlerFunc {
	return Hijack(func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) })
}

// Counting answers each request as the handler for its number does, from 1.
func Counting(handler func(n int64) http.HandlerFunc) http.HandlerFunc {
	var n atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) { handler(n.Add(1))(w, r) }
}

// Hang says nothing until the client goes.
func Hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
