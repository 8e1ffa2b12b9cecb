"""A client of the service as its users write them: what it needs of each answer, and nothing else.

Usage: contract_client.py URL
"""

import json
import sys
import urllib.error
import urllib.request

base = sys.argv[1].rstrip("/")


def get(path, timeout):
    with urllib.request.urlopen(base + path, timeout=timeout) as answer:
        assert answer.status == 200, (path, answer.status)
        assert answer.headers.get_content_type() == "application/json", path
        return json.load(answer)


def is_number_or_null(value):
    return value is None or isinstance(value, (int, float)) and not isinstance(value, bool)


assert get("/api/v1/health", 5)["status"] == "ok"

devices = get("/api/v1/xpum/device", 10)["devices"]
assert devices and [device["device_id"] for device in devices] == list(range(len(devices)))
assert all(isinstance(device["device_name"], str) and device["device_name"] for device in devices)

for device in devices:
    health = get(f"/api/v1/xpum/device/{device['device_id']}/health", 10)
    assert health["status"] in ("healthy", "warning", "critical", "unknown"), health["status"]
    assert all(is_number_or_null(health[field]) for field in ("temperature", "power_usage"))
    metrics = get(f"/api/v1/xpum/device/{device['device_id']}/metrics", 10)
    for field in ("gpu_utilization", "memory_used", "memory_total", "temperature", "power_usage"):
        assert is_number_or_null(metrics[field]), field
        assert (metrics[field] is None) == (field in metrics["reasons"]), field
    both = get(f"/api/v1/analytics/gpu/metrics?device_id={device['device_id']}", 10)
    assert both["device_id"] == device["device_id"] and both["timestamp"]
    assert both["metrics"]["temperature"] == metrics["temperature"]

status = get("/api/v1/analytics/gpu/status", 60)
torch, manager = status["pytorch_gpu"], status["xpu_manager"]
assert isinstance(torch["available"], bool) and isinstance(torch["intel_extension"], bool)
assert torch["count"] == len(torch["names"])
assert manager["available"] is True and len(manager["gpus"]) == len(devices)
assert all({"device_id", "device_name", "health", "metrics"} <= set(gpu) for gpu in manager["gpus"])

try:
    get("/api/v1/xpum/device/4711/health", 10)
except urllib.error.HTTPError as error:
    assert error.code == 404 and json.load(error)["title"] == "Not Found"
else:
    raise AssertionError("a device that is not there was found")

print(len(devices))
