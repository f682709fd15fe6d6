"""Our calls against a real API server: preconditions hold and errors are told apart."""

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator, Iterator

import kopf
import pytest
from kubernetes.aio.client import Configuration

from controlplane import Cluster
from proxmox_operator import errors
from proxmox_operator.engine.metrics import Metrics
from proxmox_operator.engine.queue import Key
from proxmox_operator.engine.store import ObjectStore
from proxmox_operator.kube import errors as kube_errors
from proxmox_operator.kube.client import PAGE, Kube
from proxmox_operator.kube.events import EventRecorder
from proxmox_operator.kube.login import connection, log_in
from proxmox_operator.kube.resources import LEASES, NAMESPACES, SECRETS, Resource
from proxmox_operator.kube.secrets import SecretReader
from proxmox_operator.kube.status import StatusWriter
from proxmox_operator.kube.transport import AioTransport

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
WIDGETS = Resource("kube-client.test", "v1", "widgets", "Widget")
CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.kube-client.test}
spec:
  group: kube-client.test
  names: {kind: Widget, plural: widgets, singular: widget}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}}
      schema:
        openAPIV3Schema:
          type: object
          required: [spec]
          properties:
            spec: {type: object, required: [size], properties: {size: {type: integer}}}
            status: {type: object, properties: {vmid: {type: integer}, node: {type: string}}}
"""


@pytest.fixture(scope="session")
def widget_crd(control_plane: Cluster) -> Iterator[None]:
    control_plane.kubectl("apply", "-f", "-", input=CRD, check=True)
    control_plane.kubectl(
        "wait", "--for=condition=Established", "--timeout=30s", "crd/widgets.kube-client.test", check=True
    )
    yield
    control_plane.kubectl("delete", "crd", "widgets.kube-client.test", "--wait=false", check=True)


@pytest.fixture
async def configuration(control_plane: Cluster) -> Configuration:
    return await log_in(control_plane.kubeconfig)


@pytest.fixture
async def transport(configuration: Configuration) -> AsyncIterator[AioTransport]:
    made = AioTransport(configuration)
    yield made
    await made.close()


@pytest.fixture
def kube(transport: AioTransport) -> Kube:
    return Kube(transport)


def widget(size: object = 1) -> dict:
    return {
        "apiVersion": "kube-client.test/v1",
        "kind": "Widget",
        "metadata": {"name": "w"},
        "spec": {"size": size},
    }


async def create_widget(kube: Kube, namespace: str) -> dict:
    return await kube.create(WIDGETS, widget(), namespace=namespace)


def config_map(name: str, **data: str) -> dict:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


async def test_an_object_lives_through_create_get_patch_replace_and_delete(kube: Kube, namespace: str):
    created = await kube.create(CONFIG_MAPS, config_map("m", a="1"), namespace=namespace)
    patched = await kube.patch(CONFIG_MAPS, "m", {"data": {"b": "2", "a": None}}, namespace=namespace)
    assert patched["data"] == {"b": "2"}
    replaced = await kube.replace(CONFIG_MAPS, patched | {"data": {"c": "3"}})
    assert (await kube.get(CONFIG_MAPS, "m", namespace=namespace))["data"] == {"c": "3"}
    managers = {field["manager"] for field in replaced["metadata"]["managedFields"]}
    assert managers == {"proxmox-operator"}
    uid = created["metadata"]["uid"]
    await kube.delete(CONFIG_MAPS, "m", uid=uid, namespace=namespace)
    await kube.delete(CONFIG_MAPS, "m", uid=uid, namespace=namespace)
    with pytest.raises(kube_errors.NotFound, match="get configmaps"):
        await kube.get(CONFIG_MAPS, "m", namespace=namespace)


async def test_each_refusal_is_its_own_error(kube: Kube, namespace: str, widget_crd: None):
    created = await kube.create(CONFIG_MAPS, config_map("m"), namespace=namespace)
    with pytest.raises(kube_errors.AlreadyExists):
        await kube.create(CONFIG_MAPS, config_map("m"), namespace=namespace)
    await kube.patch(CONFIG_MAPS, "m", {"data": {"x": "1"}}, namespace=namespace)
    with pytest.raises(kube_errors.Conflict):
        await kube.replace(CONFIG_MAPS, created)
    with pytest.raises(kube_errors.Conflict):
        await kube.patch_metadata(CONFIG_MAPS, created, {"labels": {"a": "b"}})
    with pytest.raises(kube_errors.Conflict):
        await kube.delete(CONFIG_MAPS, "m", uid=str(uuid.uuid4()), namespace=namespace)
    with pytest.raises(kube_errors.Invalid, match=r"spec\.size"):
        await kube.create(WIDGETS, widget(size="big"), namespace=namespace)
    with pytest.raises(kube_errors.NotFound):
        await kube.create(CONFIG_MAPS, config_map("m"), namespace="no-such-namespace")


async def test_wrong_credentials_and_missing_rules_need_a_human(
    control_plane: Cluster, configuration: Configuration, namespace: str
):
    wrong = AioTransport(configuration)
    configuration.api_key["BearerToken"] = "Bearer not-a-token"
    with pytest.raises(kube_errors.Unauthorized, match="token or kubeconfig"):
        await Kube(wrong).get(LEASES, "x", namespace=namespace)
    await wrong.close()

    control_plane.kubectl("create", "serviceaccount", "nobody", "-n", namespace, check=True)
    token = control_plane.kubectl("create", "token", "nobody", "-n", namespace, check=True).stdout.strip()
    limited = AioTransport(configuration)
    configuration.api_key["BearerToken"] = f"Bearer {token}"
    with pytest.raises(kube_errors.Forbidden, match="must grant 'update' on 'leases'"):
        await Kube(limited).replace(LEASES, {"metadata": {"name": "x", "namespace": namespace}, "spec": {}})
    await limited.close()


async def test_a_certificate_of_another_authority_is_refused_before_anything_is_sent(
    configuration: Configuration, namespace: str
):
    configuration.ssl_ca_cert = None
    configuration.ca_cert_data = None
    transport = AioTransport(configuration)
    with pytest.raises(errors.Unreachable, match="certificate"):
        await Kube(transport).create(CONFIG_MAPS, config_map("m"), namespace=namespace)
    await transport.close()


async def test_nothing_can_be_created_where_a_namespace_ends(
    control_plane: Cluster, kube: Kube, namespace: str
):
    held = config_map("held") | {"metadata": {"name": "held", "finalizers": ["kube-client.test/hold"]}}
    raw = await kube.create(CONFIG_MAPS, held, namespace=namespace)
    control_plane.delete_namespace(namespace)
    try:
        with pytest.raises(kube_errors.NamespaceTerminating):
            await kube.create(CONFIG_MAPS, config_map("m"), namespace=namespace)
    finally:
        await kube.patch(CONFIG_MAPS, "held", {"metadata": {"finalizers": None}}, namespace=namespace)
    assert raw["metadata"]["finalizers"]


async def test_a_long_list_is_complete(kube: Kube, namespace: str):
    wanted = {f"m{number}" for number in range(PAGE + 20)}
    limit = asyncio.Semaphore(20)

    async def create(name: str) -> None:
        async with limit:
            await kube.create(CONFIG_MAPS, config_map(name), namespace=namespace)

    await asyncio.gather(*(create(name) for name in wanted))
    listing = await kube.list(CONFIG_MAPS, namespace=namespace)
    assert wanted <= {item["metadata"]["name"] for item in listing.items}
    assert int(listing.resource_version) >= max(int(i["metadata"]["resourceVersion"]) for i in listing.items)
    assert {item["kind"] for item in listing.items} == {"ConfigMap"}


async def test_a_status_is_written_over_the_version_read_and_only_the_status(
    transport: AioTransport, namespace: str, widget_crd: None
):
    metrics = Metrics()
    kube = Kube(transport, observe=metrics.kube_call)
    store = ObjectStore()
    writer = StatusWriter(kube, store, resources={"Widget": WIDGETS})
    raw = await create_widget(kube, namespace)
    store.apply("Widget", raw)
    slim = store.get(Key("Widget", namespace, "w"))
    assert slim is not None
    assert "managedFields" not in slim["metadata"]
    first = await writer.write(slim, {"vmid": 100, "node": None})
    assert await writer.write(first, {"vmid": 100}) is first
    second = await writer.write(first, {"vmid": 100, "node": "pve1"})
    with pytest.raises(errors.Outdated):
        await writer.write(first, {"vmid": 666})
    with pytest.raises(kube_errors.Invalid, match=r"status\.vmid"):
        await writer.write(second, {"vmid": "hundred"})
    fresh = await kube.get(WIDGETS, "w", namespace=namespace)
    assert fresh["status"] == {"vmid": 100, "node": "pve1"}
    assert fresh["spec"] == {"size": 1}
    assert fresh["metadata"]["generation"] == 1
    assert store.get(Key("Widget", namespace, "w")) is not None
    writes = 'proxmox_operator_kube_writes_total{resource="widgets.kube-client.test",verb="replace"} 2.0'
    assert writes in metrics.render().decode().splitlines()


async def test_a_status_meant_for_a_deleted_object_is_not_given_to_its_namesake(
    kube: Kube, namespace: str, widget_crd: None
):
    writer = StatusWriter(kube, ObjectStore(), resources={"Widget": WIDGETS})
    old = await create_widget(kube, namespace)
    await kube.delete(WIDGETS, "w", uid=old["metadata"]["uid"], namespace=namespace)
    with pytest.raises(kube_errors.NotFound):
        await writer.write(old, {"vmid": 100})
    await create_widget(kube, namespace)
    with pytest.raises(errors.Outdated):
        await writer.write(old, {"vmid": 100})
    with pytest.raises(errors.Outdated):
        await writer.add_finalizer(old)
    assert "status" not in await kube.get(WIDGETS, "w", namespace=namespace)


async def test_the_finalizer_holds_an_object_and_its_removal_lets_it_go(
    kube: Kube, namespace: str, widget_crd: None
):
    store = ObjectStore()
    writer = StatusWriter(kube, store, resources={"Widget": WIDGETS})
    raw = await writer.add_finalizer(await create_widget(kube, namespace))
    await kube.delete(WIDGETS, "w", uid=raw["metadata"]["uid"], namespace=namespace)
    held = await kube.get(WIDGETS, "w", namespace=namespace)
    assert held["metadata"]["deletionTimestamp"]
    assert store.get(Key("Widget", namespace, "w")) is not None
    await writer.drop_finalizer(held)
    assert store.get(Key("Widget", namespace, "w")) is None
    assert not store.apply("Widget", held)  # what the watch tells late
    with pytest.raises(kube_errors.NotFound):
        await kube.get(WIDGETS, "w", namespace=namespace)


async def test_an_event_and_its_count_are_what_kubectl_shows(
    control_plane: Cluster, kube: Kube, namespace: str, widget_crd: None
):
    raw = await create_widget(kube, namespace)
    results: list[str] = []
    recorder = EventRecorder(kube, instance="test", recount=0.01, observe=results.append)
    running = asyncio.create_task(recorder.run())
    recorder.warning(raw, "StorageFull", "storage 'ceph' has 1 GiB left", action="Create")
    async with asyncio.timeout(10):
        while True:
            if results == ["posted"]:
                break
            await asyncio.sleep(0.01)
    for _ in range(4):
        recorder.warning(raw, "StorageFull", "storage 'ceph' has 1 GiB left", action="Create")
    recorder.stop()
    await running
    told = control_plane.kubectl(
        "describe", "widgets.kube-client.test", "w", "-n", namespace, check=True
    ).stdout
    line = next(line for line in told.splitlines() if "StorageFull" in line)
    assert "Warning" in line
    assert "(x5 over" in line
    assert "proxmox-operator" in line
    assert "storage 'ceph' has 1 GiB left" in line


async def test_events_of_a_cluster_scoped_object_are_accepted(
    control_plane: Cluster, kube: Kube, namespace: str
):
    raw = await kube.get(NAMESPACES, namespace)
    reason = f"Reachable{uuid.uuid4().hex[:8]}"
    results: list[str] = []
    recorder = EventRecorder(kube, instance="test", observe=results.append)
    recorder.normal(raw | {"apiVersion": "v1", "kind": "Namespace"}, reason, "x" * 3000)
    recorder.stop()
    await recorder.run()
    assert results == ["posted"]
    assert reason in control_plane.kubectl("get", "events", "-n", "default", check=True).stdout


async def test_a_secret_is_read_with_its_values_and_followed_when_it_changes(kube: Kube, namespace: str):
    reader = SecretReader(kube)
    with pytest.raises(errors.NeedsHuman) as caught:
        await reader.get(namespace, "pve")
    assert caught.value.reason == "SecretNotFound"
    body = {"metadata": {"name": "pve"}, "data": {"token": base64.b64encode(b"t-1\n").decode()}}
    await kube.create(SECRETS, body, namespace=namespace)
    first = await reader.get(namespace, "pve")
    assert first.text("token") == "t-1"
    await kube.patch(SECRETS, "pve", {"stringData": {"token": "t-2"}}, namespace=namespace)
    reader.invalidate(namespace, "pve")
    second = await reader.get(namespace, "pve")
    assert second.text("token") == "t-2"


async def test_kopf_logs_in_with_what_we_found(configuration: Configuration, namespace: str):
    info = kopf.ConnectionInfo(**await connection(configuration))
    again = Configuration(host=info.server, api_key={"BearerToken": f"Bearer {info.token}"})
    again.ssl_ca_cert, again.ca_cert_data = configuration.ssl_ca_cert, configuration.ca_cert_data
    transport = AioTransport(again)
    assert (await Kube(transport).get(NAMESPACES, namespace))["metadata"]["name"] == namespace
    await transport.close()
