package front

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/amlaks/amlaks/cmd/amlaks-fe/internal/queue"
	"github.com/amlaks/amlaks/reconcile/kube/routes"
)

const (
	// prefixTimeout is how long a client may take for the first part of its body.
	prefixTimeout = 30 * time.Second
	// maxBearer bounds the keys and tokens that are looked at.
	maxBearer = 8 << 10
	// statusClientGone is nginx's 499: nobody is there to read it, only the log.
	statusClientGone = 499
)

// ServeHTTP answers / and the scoring URLs.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/" {
		_, _ = io.WriteString(w, "Healthy")
		return
	}
	x := &exchange{start: time.Now(), requestID: requestID(r), hops: hops(r)}
	rec := &recorder{ResponseWriter: w}
	defer s.record(x, rec, r)
	rec.Header().Set("X-Ms-Request-Id", x.requestID)
	if id := r.Header.Get("X-Ms-Client-Request-Id"); id != "" && len(id) <= 128 {
		rec.Header().Set("X-Ms-Client-Request-Id", id)
	}
	s.serve(rec, r, x)
}

func (s *Server) serve(w *recorder, r *http.Request, x *exchange) {
	name, action, ok := parsePath(r.URL.Path)
	if !ok {
		x.refuse(w, http.StatusNotFound, "not_found", "no such path; a service is scored at /api/v1/service/NAME/score")
		return
	}
	svc := s.service(name)
	if svc == nil {
		x.refuse(w, http.StatusNotFound, "not_found", "no service of this name")
		return
	}
	x.service = svc
	if r.Method != http.MethodPost && r.Method != http.MethodGet {
		w.Header().Set("Allow", "GET, POST")
		x.refuse(w, http.StatusMethodNotAllowed, "method", "only GET and POST are routed")
		return
	}
	if !s.authorized(r, svc) {
		w.Header().Set("WWW-Authenticate", "Bearer")
		x.refuse(w, http.StatusUnauthorized, "auth", "a valid key or token is needed: Authorization: Bearer ...")
		return
	}
	version, ok := svc.choose(r.Header.Get("Azureml-Model-Deployment"), action)
	if !ok {
		x.refuse(w, http.StatusNotFound, "not_found", "the service has no version of this name")
		return
	}
	x.version = version
	x.path = svc.Versions[x.version].ScoringPath
	if action == "swagger.json" {
		x.path = "/swagger.json"
	}
	x.authorization = r.Header.Get("Authorization")

	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(prefixTimeout))
	var err error
	if x.body, err = readPrefix(w, r); err != nil {
		s.fail(w, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x)), err)
		return
	}
	// A read deadline that passes would look like a client that left.
	_ = control.SetReadDeadline(time.Time{})
	x.extendRead = func(d time.Duration) {
		if x.body.rest != nil {
			_ = control.SetReadDeadline(time.Now().Add(d))
		}
		_ = control.SetWriteDeadline(time.Now().Add(d))
	}
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	s.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x)))
}

// parsePath splits /api/v1/service/NAME/ACTION.
func parsePath(path string) (name, action string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/api/v1/service/")
	if !ok {
		return "", "", false
	}
	name, action, _ = strings.Cut(rest, "/")
	return name, action, name != "" && (action == "score" || action == "swagger.json")
}

// choose is the pinned version, or the next by weight; swagger is the default's.
func (svc *service) choose(pin, action string) (int, bool) {
	if pin != "" {
		i := slices.IndexFunc(svc.Versions, func(v routes.Version) bool { return v.Name == pin })
		return i, i >= 0
	}
	if action == "swagger.json" {
		return max(0, slices.IndexFunc(svc.Versions, func(v routes.Version) bool { return v.Default })), true
	}
	return svc.split.next(), true
}

func (s *Server) authorized(r *http.Request, svc *service) bool {
	if svc.AuthMode == "none" {
		return true
	}
	scheme, credential, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	credential = strings.TrimSpace(credential)
	if !strings.EqualFold(scheme, "Bearer") || credential == "" || len(credential) > maxBearer {
		return false
	}
	switch {
	case svc.AuthMode == "key":
		return s.keys.Check(svc.KeysSecret, credential)
	case svc.AuthMode == "token" && svc.Token != nil && svc.Token.Issuer == "kubernetes" && s.config.Tokens != nil:
		err := s.config.Tokens.Verify(r.Context(), credential, svc.Token.Audience, svc.Token.Subject)
		if err != nil {
			s.config.Log.Info("token refused", "service", svc.Name, "error", err)
		}
		return err == nil
	}
	s.config.Log.Warn("this front end cannot check the service's tokens; refused", "service", svc.Name, "authMode", svc.AuthMode)
	return false
}

// rewrite cleans what the model is shown; the dispatcher sets the address.
func rewrite(r *httputil.ProxyRequest) {
	r.SetXForwarded()
	for name := range r.Out.Header {
		if strings.HasPrefix(name, "X-Amlaks-") {
			r.Out.Header.Del(name)
		}
	}
	r.Out.Header.Del("Authorization")
	r.Out.Header.Del("Connection")
	r.Out.Header.Del("Upgrade")
	r.Out.URL.RawQuery = r.In.URL.RawQuery
	if x, ok := r.In.Context().Value(exchangeKey{}).(*exchange); ok {
		r.Out.Header.Set("X-Ms-Request-Id", x.requestID)
	}
}

// fail turns a dispatcher's or a body's error into v1's status codes.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	x := r.Context().Value(exchangeKey{}).(*exchange)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		x.refuse(w, http.StatusRequestEntityTooLarge, "body_too_large", "a request body has at most 100 MB")
	case r.Context().Err() != nil:
		x.refuse(w, statusClientGone, "client_gone", "")
	case errors.Is(err, errScoringTimeout):
		// Unblocks a body that is still being read from a slow client.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now())
		if r.ProtoMajor == 1 { // of HTTP/2 it would end the other requests' connection too
			w.Header().Set("Connection", "close")
		}
		x.refuse(w, http.StatusGatewayTimeout, "scoring_timeout", err.Error())
	case errors.Is(err, queue.ErrTimeout):
		x.refuse(w, http.StatusServiceUnavailable, "queue_timeout", err.Error())
	case errors.Is(err, queue.ErrFull):
		x.refuse(w, http.StatusServiceUnavailable, "queue_full", err.Error())
	case errors.Is(err, queue.ErrNoReplica), refused(err) && x.forwarded == "":
		x.refuse(w, http.StatusServiceUnavailable, "no_replica", queue.ErrNoReplica.Error())
	case errors.Is(err, errNoCoordinator):
		x.refuse(w, http.StatusServiceUnavailable, "no_coordinator", err.Error())
	case x.bound || x.forwarded != "":
		s.config.Log.Info("connection broke", "service", x.service.Name, "replica", x.replica, "forwarded", x.forwarded, "error", err)
		x.refuse(w, http.StatusBadGateway, "connection", "the connection to the replica broke")
	default:
		x.refuse(w, http.StatusBadRequest, "body", "the request body could not be read")
	}
}

// refuse answers with the front end's own error; the reason is stable, for programs.
func (x *exchange) refuse(w http.ResponseWriter, status int, reason, message string) {
	x.reason = reason
	h := w.Header()
	h.Set("X-Amlaks-Reason", reason)
	h.Set("Content-Type", "application/json")
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]map[string]string{"error": {"code": reason, "message": message}})
}

func hops(r *http.Request) int {
	n, err := strconv.Atoi(r.Header.Get(hopHeader))
	if err != nil || n < 0 {
		return 0
	}
	return min(n, maxHops)
}

// requestID is a new one, or the forwarding front end's.
func requestID(r *http.Request) string {
	if id := r.Header.Get("X-Ms-Request-Id"); hops(r) > 0 && len(id) == 32 {
		if _, err := hex.DecodeString(id); err == nil {
			return id
		}
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	return hex.EncodeToString(id[:])
}
