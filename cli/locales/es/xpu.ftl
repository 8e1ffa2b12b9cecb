## minka xpu: help

help-xpu = Aceleradores de cualquier marca: mostrarlos, vigilarlos, servir lo que dicen
help-xpu--root = Lee la máquina grabada en este directorio en lugar de esta
help-xpu--limits = Límites para lo que el hardware no dice (por defecto minka/xpu-limits.toml en ~/.config; para root, en /etc)
help-xpu--j = Escribe JSON, como --json
help-xpu--query_gpu = Campos que se imprimen de cada dispositivo, como `name,temperature.gpu,power.draw`
help-xpu--format = Cómo se imprimen los campos: `csv`, y además `noheader` y `nounits`
help-xpu--list_gpus = Lista los dispositivos, uno por línea
help-xpu--repeat = Lo repite cada tantos segundos
help-xpu--loop_ms = Lo repite cada tantos milisegundos
help-xpu--count = Termina después de tantas veces

help-xpu-discovery = Muestra qué dispositivos hay
help-xpu-discovery--device = Solo este: su número, dirección PCI o UUID
help-xpu-topology = Muestra dónde están los dispositivos: sus enlaces y qué procesadores tienen cerca
help-xpu-topology--device = Solo este: su número, dirección PCI o UUID
help-xpu-stats = Muestra qué hacen los dispositivos: valor último, menor, medio y mayor
help-xpu-stats--device = Solo este: su número, dirección PCI o UUID
help-xpu-health = Muestra si los dispositivos están bien, y según qué límites
help-xpu-health--device = Solo este: su número, dirección PCI o UUID
help-xpu-readings = Muestra cada valor que dan los dispositivos, con su fuente, y por qué faltan otros
help-xpu-readings--device = Solo este: su número, dirección PCI o UUID
help-xpu-dump = Escribe las columnas elegidas línea por línea, como tabla para otros programas
help-xpu-dump--device = Solo estos; -1 para todos
help-xpu-dump--metrics = Las columnas, con los números de XPU Manager de 0 a 36
help-xpu-dump--interval = Segundos entre dos líneas
help-xpu-dump--number = Termina después de tantas líneas de cada dispositivo
help-xpu-ps = Muestra qué procesos usan los dispositivos
help-xpu-ps--device = Solo este: su número, dirección PCI o UUID
help-xpu-serve = Sirve por HTTP lo que dicen los dispositivos, hasta que se termine
help-xpu-serve--listen = Dónde escucha
help-xpu-serve--interval = Milisegundos entre dos muestras
help-xpu-serve--tokens = El archivo de fichas (por defecto minka/xpu-tokens.toml en ~/.config; para root, en /etc)
help-xpu-serve--require_token = Tampoco deja leer a nadie sin ficha
help-xpu-serve--audit = Anota aquí quién cambió algo y a quién se le negó
help-xpu-serve--python = El Python al que se pregunta por sus GPU
help-xpu-token = Fichas de quienes pueden cambiar algo por medio del servicio
help-xpu-token-add = Crea una ficha y la imprime
help-xpu-token-add--name = De quién es
help-xpu-token-add--role = Qué permite: read, operate o admin
help-xpu-token-add--tokens = El archivo de fichas
help-xpu-token-list = Lista las fichas
help-xpu-token-list--tokens = El archivo de fichas
help-xpu-token-remove = Quita una ficha
help-xpu-token-remove--name = De quién es
help-xpu-token-remove--tokens = El archivo de fichas

help-bench-accel = Cuánto cuesta vigilar aceleradores y servir lo que dicen (unos 30 s)

## minka xpu: what is shown

xpu-none = no se encontró ningún acelerador
xpu-serving = sirviendo en http://{ $address }
xpu-token-once = esta es la ficha; no se guarda y no se puede mostrar otra vez
xpu-hidden = { $count ->
        [one] no se pudo mirar en un proceso de otro usuario
       *[other] no se pudo mirar en { $count } procesos de otros usuarios
    }: para eso hace falta CAP_SYS_PTRACE
xpu-device = DISPOSITIVO
xpu-name = NOMBRE
xpu-role = PAPEL
xpu-busy = USO
xpu-memory = MEMORIA
xpu-temperature = TEMP
xpu-power = POTENCIA
xpu-clock = RELOJ
xpu-fan = VENTILADOR
xpu-health = SALUD
xpu-course = CURSO
xpu-vendor = MARCA
xpu-driver = CONTROLADOR
xpu-address = DIRECCIÓN
xpu-firmware = FIRMWARE
xpu-uuid = UUID
xpu-link = ENLACE
xpu-link-maximum = ENLACE MÁXIMO
xpu-processors = PROCESADORES
xpu-metric = MÉTRICA
xpu-place = PARTE
xpu-value = VALOR
xpu-source = FUENTE O RAZÓN
xpu-least = MENOR
xpu-mean = MEDIA
xpu-greatest = MAYOR
xpu-check = CONTROL
xpu-description = DESCRIPCIÓN
xpu-pid = PID
xpu-process = PROCESO
xpu-shared = COMPARTIDA
xpu-state-ok = bien
xpu-state-warning = AVISO
xpu-state-critical = CRÍTICO
xpu-state-unknown = no se sabe
xpu-check-core-temperature = temperatura del procesador
xpu-check-memory-temperature = temperatura de la memoria
xpu-check-power = potencia
xpu-check-memory = memoria
xpu-check-xe-link-port = enlaces entre tarjetas
xpu-check-frequency = frecuencia
