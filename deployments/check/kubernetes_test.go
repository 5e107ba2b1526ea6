package check

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// cluster is everything that the manifests make.
type cluster struct {
	namespaces   []*corev1.Namespace
	services     []*corev1.Service
	deployments  []*appsv1.Deployment
	statefulSets []*appsv1.StatefulSet
	budgets      []*policyv1.PodDisruptionBudget
	policies     []*networkingv1.NetworkPolicy
}

// decode reads one document into the API's own type; unknown and doubled keys are errors.
func (c *cluster) decode(doc []byte) error {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(doc, &kind); err != nil {
		return err
	}
	switch kind.APIVersion + " " + kind.Kind {
	case "v1 Namespace":
		return strict(doc, &c.namespaces)
	case "v1 Service":
		return strict(doc, &c.services)
	case "apps/v1 Deployment":
		return strict(doc, &c.deployments)
	case "apps/v1 StatefulSet":
		return strict(doc, &c.statefulSets)
	case "policy/v1 PodDisruptionBudget":
		return strict(doc, &c.budgets)
	case "networking.k8s.io/v1 NetworkPolicy":
		return strict(doc, &c.policies)
	}
	return &os.PathError{Op: "decode", Path: kind.APIVersion + " " + kind.Kind, Err: os.ErrInvalid} // Secrets among them
}

func strict[T any](doc []byte, to *[]*T) error {
	v := new(T)
	*to = append(*to, v)
	return yaml.UnmarshalStrict(doc, v)
}

func readManifests(t *testing.T) *cluster {
	t.Helper()
	files, err := filepath.Glob("../kubernetes/*.yaml")
	if err != nil || len(files) < 6 {
		t.Fatalf("%q, %v", files, err)
	}
	var named struct {
		metav1.TypeMeta `json:",inline"`
		Resources       []string `json:"resources"`
	}
	text, err := os.ReadFile("../kubernetes/kustomization.yaml")
	if err == nil {
		err = yaml.UnmarshalStrict(text, &named)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{}
	for _, file := range files {
		base := filepath.Base(file)
		if base == "kustomization.yaml" {
			continue
		}
		if !slices.Contains(named.Resources, base) {
			t.Errorf("kustomization.yaml leaves out %s", base)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for doc := range bytes.SplitSeq(text, []byte("\n---\n")) {
			if err := c.decode(doc); err != nil {
				t.Errorf("%s: %v", base, err)
			}
		}
	}
	return c
}

// workload is what a Deployment and a StatefulSet have in common.
type workload struct {
	name     string
	selector *metav1.LabelSelector
	pod      corev1.PodTemplateSpec
	claims   []corev1.PersistentVolumeClaim
}

func (c *cluster) workloads() []workload {
	var all []workload
	for _, d := range c.deployments {
		all = append(all, workload{d.Name, d.Spec.Selector, d.Spec.Template, nil})
	}
	for _, s := range c.statefulSets {
		all = append(all, workload{s.Name, s.Spec.Selector, s.Spec.Template, s.Spec.VolumeClaimTemplates})
	}
	return all
}

func TestKubernetes(t *testing.T) {
	c := readManifests(t)
	all := c.workloads()
	if len(c.namespaces) != 1 || len(c.deployments) != 1 || len(c.statefulSets) != 3 || len(c.policies) != 4 {
		t.Fatalf("%d namespaces, %d Deployments, %d StatefulSets, %d NetworkPolicies", len(c.namespaces), len(c.deployments), len(c.statefulSets), len(c.policies))
	}
	for _, w := range all {
		selector, err := metav1.LabelSelectorAsSelector(w.selector)
		if err != nil || !selector.Matches(labels.Set(w.pod.Labels)) {
			t.Errorf("%s does not select its own pods: %v", w.name, err)
		}
		restricted(t, w)
		mounted(t, w)
		drains(t, w)
		if n := count(c.budgets, func(b *policyv1.PodDisruptionBudget) bool { return selects(b.Spec.Selector, w.pod.Labels) }); n != 1 {
			t.Errorf("%s has %d PodDisruptionBudgets", w.name, n)
		}
		terms := w.pod.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
		if len(terms) != 1 || !selects(terms[0].LabelSelector, w.pod.Labels) {
			t.Errorf("two pods of %s may share a node", w.name)
		}
	}
	for _, s := range c.services {
		var found *workload
		for i, w := range all {
			if labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(w.pod.Labels)) {
				found = &all[i]
			}
		}
		for _, p := range s.Spec.Ports {
			if found == nil || !hasPort(found.pod.Spec, p.TargetPort) {
				t.Errorf("service %s leads port %d nowhere", s.Name, p.Port)
			}
		}
	}
	for _, s := range c.statefulSets {
		if n := count(c.services, func(v *corev1.Service) bool {
			return v.Name == s.Spec.ServiceName && v.Spec.ClusterIP == corev1.ClusterIPNone
		}); n != 1 {
			t.Errorf("%s: %d headless services %q", s.Name, n, s.Spec.ServiceName)
		}
	}
	for _, p := range c.policies {
		for _, in := range p.Spec.Ingress {
			for _, port := range in.Ports {
				if count(ptrs(all), func(w *workload) bool {
					return selects(&p.Spec.PodSelector, w.pod.Labels) && hasPort(w.pod.Spec, *port.Port)
				}) == 0 {
					t.Errorf("policy %s opens port %s, which nobody has", p.Name, port.Port)
				}
			}
		}
	}
}

// restricted is what the namespace's label enforces.
func restricted(t *testing.T, w workload) {
	t.Helper()
	pod := w.pod.Spec.SecurityContext
	if pod == nil || pod.RunAsNonRoot == nil || !*pod.RunAsNonRoot || pod.RunAsUser == nil || *pod.RunAsUser == 0 ||
		pod.SeccompProfile == nil || pod.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%s: the pod's security context is %+v", w.name, pod)
	}
	for _, c := range w.pod.Spec.Containers {
		s := c.SecurityContext
		if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem ||
			s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 {
			t.Errorf("%s: the container's security context is %+v", w.name, s)
		}
		if c.Resources.Requests.Cpu().IsZero() || c.Resources.Limits.Memory().IsZero() {
			t.Errorf("%s: resources %+v", w.name, c.Resources)
		}
		if _, tag, ok := strings.Cut(c.Image, ":"); !ok || tag == "latest" {
			t.Errorf("%s: image %q has no tag that stays", w.name, c.Image)
		}
		for _, p := range []*corev1.Probe{c.ReadinessProbe, c.LivenessProbe} {
			if p == nil || p.HTTPGet == nil || !hasPort(w.pod.Spec, p.HTTPGet.Port) {
				t.Errorf("%s: probe %+v", w.name, p)
			}
		}
	}
}

// mounted: every mount has its volume, and secrets are read-only, and only there.
func mounted(t *testing.T, w workload) {
	t.Helper()
	for _, c := range w.pod.Spec.Containers {
		for _, m := range c.VolumeMounts {
			i := slices.IndexFunc(w.pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
			claimed := slices.ContainsFunc(w.claims, func(v corev1.PersistentVolumeClaim) bool { return v.Name == m.Name })
			if i < 0 && !claimed || i >= 0 && !m.ReadOnly {
				t.Errorf("%s: mount %+v", w.name, m)
			}
		}
	}
}

// drains: whoever is told to stop gets the time that it needs.
func drains(t *testing.T, w workload) {
	t.Helper()
	c := w.pod.Spec.Containers[0]
	need := time.Duration(0)
	for _, a := range c.Args {
		if text, ok := strings.CutPrefix(a, "--drain-time="); ok {
			d, err := time.ParseDuration(text)
			if err != nil {
				t.Fatal(err)
			}
			need = d + 5*time.Second // and its farewell
		}
	}
	if c.Args[0] == "edge" && (need == 0 || c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.Sleep == nil) {
		t.Fatalf("%s: no drain time, or no preStop", w.name)
	}
	if c.Lifecycle != nil && c.Lifecycle.PreStop.Sleep != nil {
		need += time.Duration(c.Lifecycle.PreStop.Sleep.Seconds) * time.Second
	}
	if grace := time.Duration(*w.pod.Spec.TerminationGracePeriodSeconds) * time.Second; grace < need {
		t.Errorf("%s is killed after %v and needs %v", w.name, grace, need)
	}
}

// TestEdgesHaveUsersOfTheirOwn: where ids stay, each edge signs in as a user that accounts.conf lets speak for this edge
// only, and no edge's container holds another's seed.
func TestEdgesHaveUsersOfTheirOwn(t *testing.T) {
	accounts, err := os.ReadFile("../nats/accounts.conf")
	if err != nil {
		t.Fatal(err)
	}
	bound := func(unit, id string) {
		t.Helper()
		user := regexp.MustCompile(`(?s)\$UNITGATE_NKEY_EDGE_` + strings.ToUpper(strings.ReplaceAll(id, "-", "_")) + "\n.*?\n      }\n").FindString(string(accounts))
		own := "unitgate.edge.shop." + unit + "." + id + "."
		if n := strings.Count(user, own); n == 0 || strings.Count(user, "unitgate.edge.") != n {
			t.Errorf("the user of %s may speak for others: %s", id, user)
		}
	}
	for _, s := range readManifests(t).statefulSets {
		c := s.Spec.Template.Spec.Containers[0]
		if c.Args[0] != "edge" {
			continue
		}
		unit := s.Spec.Template.Labels["unitgate.io/unit"]
		if s.Spec.Ordinals == nil || !slices.Contains(c.Args, "--id=$(POD_NAME)") || !slices.Contains(c.Args, "--unit="+unit) {
			t.Fatalf("%s: ordinals %v, args %q", s.Name, s.Spec.Ordinals, c.Args)
		}
		for n := range *s.Spec.Replicas {
			bound(unit, fmt.Sprintf("%s-%d", s.Name, s.Spec.Ordinals.Start+n))
		}
		i := slices.IndexFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == "nkey" })
		if i < 0 || c.VolumeMounts[i].SubPathExpr != "$(POD_NAME)" || !slices.Contains(c.Args, "--nkey="+c.VolumeMounts[i].MountPath) {
			t.Errorf("%s mounts %+v", s.Name, c.VolumeMounts)
		}
	}
	for name, s := range loadCompose(t).Services {
		if len(s.Command) == 0 || s.Command[0] != "edge" {
			continue
		}
		value := func(flag string) string { return s.Command[slices.Index(s.Command, flag)+1] }
		bound(value("--unit"), value("--id"))
		if want := "/keys/edge-" + value("--id") + ".nk"; value("--nkey") != want {
			t.Errorf("%s signs in with %s, want %s", name, value("--nkey"), want)
		}
	}
}

// TestMonitorIsInside: what NATS shows of itself to whoever asks is reached by the kubelet, and on this machine.
func TestMonitorIsInside(t *testing.T) {
	c := readManifests(t)
	for _, s := range c.services {
		for _, p := range s.Spec.Ports {
			if p.Port == 8222 || p.TargetPort.StrVal == "monitor" || p.TargetPort.IntVal == 8222 {
				t.Errorf("service %s leads to it", s.Name)
			}
		}
	}
	for _, p := range c.policies {
		for _, in := range p.Spec.Ingress {
			for _, port := range in.Ports {
				if port.Port == nil || port.Port.StrVal == "monitor" || port.Port.IntVal == 8222 {
					t.Errorf("policy %s opens it", p.Name)
				}
			}
		}
	}
	for name, s := range loadCompose(t).Services {
		for _, port := range s.Ports {
			if port.Target == 8222 {
				t.Errorf("%s publishes it", name)
			}
		}
	}
}

// TestKubernetesIsStrict: what the decoder lets pass would prove nothing.
func TestKubernetesIsStrict(t *testing.T) {
	for _, doc := range []string{
		"apiVersion: v1\nkind: Service\nspec: {selektor: {a: b}}\n",
		"apiVersion: v1\nkind: Service\nspec: {type: ClusterIP, type: LoadBalancer}\n",
		"apiVersion: apps/v1\nkind: StatefulSet\nspec: {replicas: two}\n",
		"apiVersion: v1\nkind: Secret\n",
	} {
		if err := new(cluster).decode([]byte(doc)); err == nil {
			t.Errorf("%q passes", doc)
		}
	}
}

func selects(s *metav1.LabelSelector, pod map[string]string) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && selector.Matches(labels.Set(pod))
}

func hasPort(pod corev1.PodSpec, want intstr.IntOrString) bool {
	return slices.ContainsFunc(pod.Containers, func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool {
			return want.Type == intstr.String && p.Name == want.StrVal || want.Type == intstr.Int && p.ContainerPort == want.IntVal
		})
	})
}

func count[T any](all []*T, is func(*T) bool) (n int) {
	for _, v := range all {
		if is(v) {
			n++
		}
	}
	return n
}

func ptrs[T any](all []T) []*T {
	var out []*T
	for i := range all {
		out = append(out, &all[i])
	}
	return out
}
