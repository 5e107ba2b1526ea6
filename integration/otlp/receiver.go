// Package otlp is a collector for tests: it takes spans by OTLP over gRPC and over HTTP, on loopback, and keeps them all.
package otlp

import (
	"compress/gzip"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	wire "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// Span is one span as it came in.
type Span struct {
	Service           string            // service.name
	Resource          map[string]string // its attributes
	Name              string
	Trace, ID, Parent string // lower-case hex; Parent is "" for a root
	Start, End        time.Time
	Kind              string // as in the protocol: SPAN_KIND_SERVER
	Failed            bool   // its status is an error
	Attributes        map[string]string
	Links             []Link
	Header            map[string]string // of the request that brought it, keys in lower case
}

// Link is a span's link.
type Link struct{ Trace, ID string }

// Receiver is a running collector. Its methods may be used by any goroutine.
type Receiver struct {
	collector.UnimplementedTraceServiceServer
	grpc     *grpc.Server
	http     *http.Server
	grpcAddr string
	httpAddr string
	serving  sync.WaitGroup

	mu      sync.Mutex
	spans   []Span
	changed chan struct{} // closed when spans come
}

// Listen starts a collector on two free ports.
func Listen() (*Receiver, error) {
	r := &Receiver{grpc: grpc.NewServer(), changed: make(chan struct{})}
	gl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	hl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		_ = gl.Close()
		return nil, err
	}
	collector.RegisterTraceServiceServer(r.grpc, r)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", r.post)
	r.http = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	r.grpcAddr, r.httpAddr = gl.Addr().String(), hl.Addr().String()
	r.serving.Go(func() { _ = r.grpc.Serve(gl) })
	r.serving.Go(func() { _ = r.http.Serve(hl) })
	return r, nil
}

// Close ends it at once.
func (r *Receiver) Close() {
	r.grpc.Stop()
	_ = r.http.Close()
	r.serving.Wait()
}

// GRPC is the URL for OTLP over gRPC.
func (r *Receiver) GRPC() string { return "http://" + r.grpcAddr }

// HTTP is the URL for OTLP over HTTP.
func (r *Receiver) HTTP() string { return "http://" + r.httpAddr }

// Spans are those that have come so far.
func (r *Receiver) Spans() []Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.spans)
}

// Await waits until the spans are such. The error is ctx's.
func (r *Receiver) Await(ctx context.Context, such func([]Span) bool) ([]Span, error) {
	for {
		r.mu.Lock()
		spans, changed := slices.Clone(r.spans), r.changed
		r.mu.Unlock()
		if such(spans) {
			return spans, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return spans, ctx.Err()
		}
	}
}

// Export is the gRPC service.
func (r *Receiver) Export(ctx context.Context, q *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	header := map[string]string{}
	md, _ := metadata.FromIncomingContext(ctx)
	for k, v := range md {
		header[k] = strings.Join(v, ",")
	}
	r.add(q, header)
	return &collector.ExportTraceServiceResponse{}, nil
}

func (r *Receiver) post(w http.ResponseWriter, q *http.Request) {
	body := io.Reader(q.Body)
	if q.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(q.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = z
	}
	b, err := io.ReadAll(body)
	var msg collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(b, &msg)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	header := map[string]string{}
	for k, v := range q.Header {
		header[strings.ToLower(k)] = strings.Join(v, ",")
	}
	r.add(&msg, header)
	w.Header().Set("Content-Type", "application/x-protobuf") // an empty answer is a success
}

func (r *Receiver) add(q *collector.ExportTraceServiceRequest, header map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range q.GetResourceSpans() {
		about := attributes(rs.GetResource().GetAttributes())
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				r.spans = append(r.spans, span(s, about, header))
			}
		}
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

func span(s *wire.Span, about, header map[string]string) Span {
	out := Span{
		Service: about["service.name"], Resource: about, Header: header, Name: s.GetName(),
		Trace: hex.EncodeToString(s.GetTraceId()), ID: hex.EncodeToString(s.GetSpanId()), Parent: hex.EncodeToString(s.GetParentSpanId()),
		Start: moment(s.GetStartTimeUnixNano()), End: moment(s.GetEndTimeUnixNano()),
		Kind: s.GetKind().String(), Failed: s.GetStatus().GetCode() == wire.Status_STATUS_CODE_ERROR, Attributes: attributes(s.GetAttributes()),
	}
	for _, l := range s.GetLinks() {
		out.Links = append(out.Links, Link{hex.EncodeToString(l.GetTraceId()), hex.EncodeToString(l.GetSpanId())})
	}
	return out
}

func moment(ns uint64) time.Time { return time.Unix(0, int64(ns)).UTC() } //nolint:gosec // of this century

func attributes(list []*common.KeyValue) map[string]string {
	out := map[string]string{}
	for _, kv := range list {
		switch v := kv.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			out[kv.GetKey()] = v.StringValue
		case *common.AnyValue_IntValue:
			out[kv.GetKey()] = fmt.Sprint(v.IntValue)
		case *common.AnyValue_BoolValue:
			out[kv.GetKey()] = fmt.Sprint(v.BoolValue)
		case *common.AnyValue_DoubleValue:
			out[kv.GetKey()] = fmt.Sprint(v.DoubleValue)
		default:
			out[kv.GetKey()] = kv.GetValue().String()
		}
	}
	return out
}
