//! NVIDIA's GPUs by the management library of NVIDIA's driver (NVML), which is looked for when the program runs.
//!
//! Each reading's source is the name of the library's function. A machine without the library has no such
//! devices and says so; a function that fails costs its own reading only.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{
    Clock, EccCounter, MemoryError, TemperatureSensor, TemperatureThreshold,
};
use nvml_wrapper::enums::device::{SampleValue, UsedGpuMemory};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;

use crate::identity::{DeviceType, Identity, Pci};
use crate::metric::Metric;
use crate::probe::believed;
use crate::value::{Reading, Reason, Value};

pub(crate) mod settings;

/// `NVML_FI_DEV_MEMORY_TEMP`, in whole °C.
const MEMORY_TEMP: u32 = 82;

/// The library, started.
#[derive(Clone)]
pub struct Library(Arc<Nvml>);

impl std::fmt::Debug for Library {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Library")
    }
}

impl Library {
    /// Looks for the library and starts it.
    pub fn start() -> Result<Self, Reason> {
        Nvml::init().map(|nvml| Library(Arc::new(nvml))).map_err(|error| reason(&error))
    }

    /// Starts the library that is in a file.
    pub fn start_file(path: &Path) -> Result<Self, Reason> {
        let nvml = Nvml::builder().lib_path(path.as_os_str()).init();
        nvml.map(|nvml| Library(Arc::new(nvml))).map_err(|error| reason(&error))
    }

    /// The devices that it knows: their numbers in the library, and who they are.
    pub fn devices(&self) -> Vec<(u32, Identity)> {
        let count = self.0.device_count().unwrap_or(0).min(256);
        (0..count).filter_map(|index| Some((index, self.identity(index).ok()?))).collect()
    }

    fn identity(&self, index: u32) -> Result<Identity, NvmlError> {
        let device = self.0.device_by_index(index)?;
        let bus = device.pci_info()?;
        let pci = Pci {
            address: format!("{:04x}:{:02x}:{:02x}.0", bus.domain, bus.bus, bus.device),
            vendor_id: (bus.pci_device_id & 0xffff) as u16,
            product_id: (bus.pci_device_id >> 16) as u16,
            subsystem: bus.pci_sub_system_id.map(|id| ((id & 0xffff) as u16, (id >> 16) as u16)),
        };
        let name = device.name()?;
        Ok(Identity {
            device_id: 0,
            device_name: if name.starts_with("NVIDIA") { name } else { format!("NVIDIA {name}") },
            device_type: DeviceType::Gpu,
            vendor_name: "NVIDIA".to_owned(),
            uuid: device.uuid().unwrap_or_else(|_| pci.uuid()),
            driver: "nvidia".to_owned(),
            device_file: device.minor_number().ok().map(|minor| format!("/dev/nvidia{minor}")),
            path: format!("nvml/{index}").into(),
            pci: Some(pci),
        })
    }

    /// The processes that use a device, and the bytes of its memory that each has, if the library tells.
    pub fn processes(&self, index: u32) -> Result<BTreeMap<u32, Option<u64>>, Reason> {
        let users = || {
            let device = self.0.device_by_index(index)?;
            let computing = device.running_compute_processes()?;
            let drawing = device.running_graphics_processes()?;
            let mut users = BTreeMap::new();
            for process in computing.into_iter().chain(drawing) {
                let bytes = match process.used_gpu_memory {
                    UsedGpuMemory::Used(bytes) => Some(bytes),
                    UsedGpuMemory::Unavailable => None,
                };
                // Who computes and draws is told twice, each time with all that it has.
                let known = users.entry(process.pid).or_insert(bytes);
                *known = (*known).max(bytes);
            }
            Ok(users)
        };
        users().map_err(|error: NvmlError| reason(&error))
    }

    /// Reads a device; settings too when `settings` is true.
    pub fn read(&self, index: u32, settings: bool) -> Vec<Reading> {
        let mut readings = Readings(Vec::with_capacity(48));
        match self.0.device_by_index(index) {
            Ok(device) => {
                live(&device, &mut readings);
                if settings {
                    lasting(&self.0, &device, &mut readings);
                }
            }
            Err(error) => {
                readings.add(Metric::Utilization, "", "nvmlDeviceGetHandleByIndex", Err::<f64, _>(error))
            }
        }
        readings.0
    }
}

struct Readings(Vec<Reading>);

impl Readings {
    fn add(&mut self, metric: Metric, location: &str, source: &str, value: Result<f64, NvmlError>) {
        let value = value.map(Value::Number).map_err(|error| reason(&error));
        self.push(metric, location, source, value);
    }

    fn text(&mut self, metric: Metric, location: &str, source: &str, value: Result<String, NvmlError>) {
        let value = value.map(|text| Value::Text(text.into())).map_err(|error| reason(&error));
        self.push(metric, location, source, value);
    }

    fn push(&mut self, metric: Metric, location: &str, source: &str, value: Result<Value, Reason>) {
        let value = value.and_then(|value| believed(metric, value));
        self.0.push(Reading { metric, location: location.into(), value, source: source.into() });
    }
}

fn live(device: &nvml_wrapper::Device<'_>, readings: &mut Readings) {
    let utilization = device.utilization_rates();
    let (gpu, memory) = match utilization {
        Ok(rates) => (Ok(rates.gpu.into()), Ok(rates.memory.into())),
        Err(error) => (Err(error), device.utilization_rates().map(|rates| rates.memory.into())),
    };
    readings.add(Metric::Utilization, "", "nvmlDeviceGetUtilizationRates", gpu);
    readings.add(Metric::MemoryBandwidthUtilization, "", "nvmlDeviceGetUtilizationRates", memory);
    let engines = [
        ("video encoder", "nvmlDeviceGetEncoderUtilization", device.encoder_utilization()),
        ("video decoder", "nvmlDeviceGetDecoderUtilization", device.decoder_utilization()),
    ];
    for (name, source, value) in engines {
        readings.add(Metric::EngineUtilization, name, source, value.map(|info| info.utilization.into()));
    }
    match device.memory_info() {
        Ok(info) => {
            readings.add(Metric::MemoryTotal, "vram", "nvmlDeviceGetMemoryInfo", Ok(info.total as f64));
            readings.add(Metric::MemoryUsed, "vram", "nvmlDeviceGetMemoryInfo", Ok(info.used as f64));
            let reserved = Ok(info.reserved as f64);
            readings.add(Metric::MemoryReserved, "vram", "nvmlDeviceGetMemoryInfo", reserved);
        }
        Err(error) => readings.add(Metric::MemoryUsed, "vram", "nvmlDeviceGetMemoryInfo", Err(error)),
    }
    let temperature = device.temperature(TemperatureSensor::Gpu);
    readings.add(Metric::Temperature, "gpu", "nvmlDeviceGetTemperature", temperature.map(f64::from));
    readings.add(Metric::Temperature, "memory", "NVML_FI_DEV_MEMORY_TEMP", memory_temperature(device));
    let milli = |value: u32| f64::from(value) / 1e3;
    readings.add(Metric::Power, "card", "nvmlDeviceGetPowerUsage", device.power_usage().map(milli));
    let energy = device.total_energy_consumption().map(|millijoules| millijoules as f64 / 1e3);
    readings.add(Metric::Energy, "card", "nvmlDeviceGetTotalEnergyConsumption", energy);
    for (clock, name) in clocks() {
        let value = device.clock_info(clock).map(f64::from);
        readings.add(Metric::Frequency, name, "nvmlDeviceGetClockInfo", value);
    }
    for fan in 0..device.num_fans().unwrap_or(0).min(16) {
        let name = format!("fan{}", fan + 1);
        readings.add(
            Metric::FanDuty,
            &name,
            "nvmlDeviceGetFanSpeed_v2",
            device.fan_speed(fan).map(f64::from),
        );
        let speed = device.fan_speed_rpm(fan).map(f64::from);
        readings.add(Metric::FanSpeed, &name, "nvmlDeviceGetFanSpeedRPM", speed);
    }
    throttle(device, readings);
    let replays = device.pcie_replay_counter().map(f64::from);
    readings.add(Metric::PcieReplays, "", "nvmlDeviceGetPcieReplayCounter", replays);
    let errors = [
        ("corrected", MemoryError::Corrected, EccCounter::Aggregate),
        ("uncorrected", MemoryError::Uncorrected, EccCounter::Aggregate),
        ("corrected since the start", MemoryError::Corrected, EccCounter::Volatile),
        ("uncorrected since the start", MemoryError::Uncorrected, EccCounter::Volatile),
    ];
    for (name, kind, counter) in errors {
        let count = device.total_ecc_errors(kind, counter).map(|count| count as f64);
        readings.add(Metric::Errors, name, "nvmlDeviceGetTotalEccErrors", count);
    }
    let state = device.performance_state().map(|state| match state.as_c() {
        number @ 0..=15 => format!("P{number}"),
        _ => "unknown".to_owned(),
    });
    readings.text(Metric::State, "performance", "nvmlDeviceGetPerformanceState", state);
}

/// The memory's temperature, which only a field tells.
fn memory_temperature(device: &nvml_wrapper::Device<'_>) -> Result<f64, NvmlError> {
    let told = device.field_values_for(&[FieldId(MEMORY_TEMP)])?.into_iter().next();
    match told.ok_or(NvmlError::NotSupported)??.value? {
        SampleValue::U32(celsius) => Ok(celsius.into()),
        _ => Err(NvmlError::NotSupported),
    }
}

fn throttle(device: &nvml_wrapper::Device<'_>, readings: &mut Readings) {
    let source = "nvmlDeviceGetCurrentClocksThrottleReasons";
    match device.current_throttle_reasons() {
        Ok(reasons) => {
            // Idle clocks and clocks that were asked for are no sign of distress.
            let chosen = ThrottleReasons::GPU_IDLE
                | ThrottleReasons::APPLICATIONS_CLOCKS_SETTING
                | ThrottleReasons::DISPLAY_CLOCK_SETTING
                | ThrottleReasons::SYNC_BOOST;
            let held = reasons.difference(chosen);
            readings.add(Metric::Throttled, "gpu", source, Ok(f64::from(u8::from(!held.is_empty()))));
            let names: Vec<String> = held.iter_names().map(|(name, _)| name.to_ascii_lowercase()).collect();
            let causes = if names.is_empty() { "none".to_owned() } else { names.join(" ") };
            readings.text(Metric::ThrottleCauses, "gpu", source, Ok(causes));
        }
        Err(error) => readings.add(Metric::Throttled, "gpu", source, Err(error)),
    }
}

fn lasting(nvml: &Nvml, device: &nvml_wrapper::Device<'_>, readings: &mut Readings) {
    let thresholds = [
        (TemperatureThreshold::Slowdown, Metric::TemperatureCritical, "gpu"),
        (TemperatureThreshold::Shutdown, Metric::TemperatureEmergency, "gpu"),
        (TemperatureThreshold::MemoryMax, Metric::TemperatureCritical, "memory"),
    ];
    for (threshold, metric, location) in thresholds {
        let value = device.temperature_threshold(threshold).map(f64::from);
        readings.add(metric, location, "nvmlDeviceGetTemperatureThreshold", value);
    }
    let milli = |value: u32| f64::from(value) / 1e3;
    let limit = device.enforced_power_limit().map(milli);
    readings.add(Metric::PowerLimit, "card", "nvmlDeviceGetEnforcedPowerLimit", limit);
    let default = device.power_management_limit_default().map(milli);
    readings.add(Metric::PowerLimitDefault, "card", "nvmlDeviceGetPowerManagementDefaultLimit", default);
    if let Ok(range) = device.power_management_limit_constraints() {
        let source = "nvmlDeviceGetPowerManagementLimitConstraints";
        readings.add(Metric::PowerLimitMinimum, "card", source, Ok(milli(range.min_limit)));
        readings.add(Metric::PowerLimitMaximum, "card", source, Ok(milli(range.max_limit)));
    }
    for (clock, name) in clocks() {
        let value = device.max_clock_info(clock).map(f64::from);
        readings.add(Metric::FrequencyHighest, name, "nvmlDeviceGetMaxClockInfo", value);
    }
    let width = |value: Result<u32, NvmlError>| value.map(f64::from);
    let speed = |generation: u32| match generation {
        1 => 2.5,
        2 => 5.0,
        other => 2.0_f64.powi(other.min(10).cast_signed()),
    };
    readings.add(
        Metric::LinkSpeed,
        "",
        "nvmlDeviceGetCurrPcieLinkGeneration",
        device.current_pcie_link_gen().map(speed),
    );
    readings.add(
        Metric::LinkWidth,
        "",
        "nvmlDeviceGetCurrPcieLinkWidth",
        width(device.current_pcie_link_width()),
    );
    readings.add(
        Metric::LinkSpeedMaximum,
        "",
        "nvmlDeviceGetMaxPcieLinkGeneration",
        device.max_pcie_link_gen().map(speed),
    );
    readings.add(
        Metric::LinkWidthMaximum,
        "",
        "nvmlDeviceGetMaxPcieLinkWidth",
        width(device.max_pcie_link_width()),
    );
    readings.text(Metric::Firmware, "vbios", "nvmlDeviceGetVbiosVersion", device.vbios_version());
    readings.text(
        Metric::Property,
        "driver version",
        "nvmlSystemGetDriverVersion",
        nvml.sys_driver_version(),
    );
    readings.text(Metric::Property, "serial number", "nvmlDeviceGetSerial", device.serial());
    let persistence = device.is_in_persistent_mode().map(|on| if on { "on" } else { "off" }.to_owned());
    readings.text(Metric::Property, "persistence mode", "nvmlDeviceGetPersistenceMode", persistence);
    let capability = device.cuda_compute_capability();
    let capability = capability.map(|version| format!("{}.{}", version.major, version.minor));
    readings.text(Metric::Property, "compute capability", "nvmlDeviceGetCudaComputeCapability", capability);
    let pending =
        device.is_ecc_enabled().map(|state| if state.pending_enabled { "on" } else { "off" }.to_owned());
    readings.text(Metric::Property, "memory ecc from the next start", "nvmlDeviceGetEccMode", pending);
    let ecc =
        device.is_ecc_enabled().map(|state| if state.currently_enabled { "on" } else { "off" }.to_owned());
    readings.text(Metric::Property, "memory ecc", "nvmlDeviceGetEccMode", ecc);
}

fn clocks() -> [(Clock, &'static str); 4] {
    [(Clock::Graphics, "graphics"), (Clock::SM, "sm"), (Clock::Memory, "memory"), (Clock::Video, "video")]
}

fn reason(error: &NvmlError) -> Reason {
    match error {
        NvmlError::NotSupported => Reason::NotOffered("the library does not offer it for this device"),
        NvmlError::NoPermission => Reason::Denied("nvml".into()),
        NvmlError::GpuLost | NvmlError::NotFound => Reason::Gone,
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => {
            Reason::NotOffered("the library libnvidia-ml.so.1 is not there")
        }
        NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => {
            Reason::NotOffered("the library is too old for it")
        }
        NvmlError::DriverNotLoaded => Reason::NotOffered("the nvidia driver is not loaded"),
        other => Reason::Failed(other.to_string().into()),
    }
}
