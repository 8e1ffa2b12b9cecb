## Errores: una primera línea, y ayuda

error-failed = no se pudo: { $operation }
error-because = motivo: { $reason }
error-connect = ningún demonio de nodo responde en { $path }
error-connect-help = ayuda: inicie uno con `minka node serve --config FICHERO`, o indique su directorio en MINKA_DIR
error-not-permitted = el proceso { $pid } es de otro usuario
error-no-process = no existe el proceso { $pid }
error-no-node = no existe el nodo { $node }
error-no-node-help = ayuda: `minka nodes` los enumera
error-silent-node = el nodo { $node } no responde
error-no-best = no se alcanza ningún otro nodo
error-cannot-move = el proceso { $pid } no puede moverse
error-not-moved = el proceso { $pid } no se ha movido y está en { $node }
error-busy = el proceso { $pid } ya se está moviendo
error-timed-out = el proceso { $pid } no se ha movido en { $seconds } s
error-not-root = solo root puede dirigir un nodo
error-not-steered = así no se puede dirigir el nodo
error-too-many-clients = el demonio del nodo tiene demasiados clientes
error-too-many-processes = el demonio del nodo ya cuida de { $limit } procesos
error-no-device = este nodo no tiene ningún dispositivo libre ({ $kind })
error-no-device-help = ayuda: estos nodos dicen que tienen uno: { $nodes }
error-not-started = ningún nodo que tenga un dispositivo libre inicia el programa
not-started-not-offered = no inicia programas de este usuario de otros nodos ([xpu] start en su node.toml)
not-started-no-such-user = no tiene ningún usuario de ese nombre
not-started-root = para root no se inicia nada
not-started-no-device = su dispositivo ya no está libre
not-started-full = ya ha iniciado tantos programas como puede
not-started-silent = no responde
gpu-elsewhere = iniciado en { $node }, con { $device }
no-device-not-watched = nadie cuida de sus aceleradores
no-device-none = no tiene ninguno de esa clase
no-device-in-use = otros usan los que tiene
no-device-drained = una política no deja dar trabajo a los que tiene
no-device-not-known = no se sabe si otros usan los que tiene
error-ending = el demonio del nodo está terminando
error-version = el demonio del nodo es de otra versión que este programa

## minka migrate

migrate-done = el proceso { $pid } está ahora en { $node }; estuvo parado { $freeze } ms
migrate-already = el proceso { $pid } está en { $node }
migrate-with = con él están los que comparten su memoria: { $with }

## minka run

run-at-home = se ejecuta en casa: { $reason }

## minka ps

ps-pid = PID
ps-command = ORDEN
ps-home = CASA
ps-where = DÓNDE
ps-moves = VIAJES
ps-cantmove = IMPEDIMENTO
ps-moving = en viaje
ps-guest = huésped
ps-ended = terminado

## minka install

install-started = esta máquina ya es el nodo { $name }, y su demonio está en marcha
install-done = esta máquina ya es el nodo { $name }; no se ha arrancado nada
    {"  "}arranca el demonio: systemctl enable --now minkad o, como root: minka node serve --config /etc/minka/node.toml

## minka doctor

doctor-good = bien
doctor-poor = regular
doctor-bad = falta
doctor-processor = un procesador x86-64
doctor-processor-mend = Los programas solo se mueven entre máquinas x86-64.
doctor-written-pages = un núcleo que dice qué memoria ha escrito un programa
doctor-written-pages-mend = Instala Linux 6.1 o más nuevo.
doctor-tracked-writes = un núcleo que anota lo que un programa escribe sin detenerlo
doctor-tracked-writes-mend = Instala Linux 6.1 o más nuevo, compilado con CONFIG_USERFAULTFD; antes de 6.7 quien no es root necesita también CONFIG_MEM_SOFT_DIRTY.
doctor-memory-on-demand = memoria que llega cuando hace falta
doctor-memory-on-demand-mend = Ejecuta el demonio como root; hasta entonces toda la memoria de un programa viaja antes de que siga.
doctor-forwarding = filtros que reenvían llamadas al sistema
doctor-forwarding-mend = El núcleo debe estar compilado con CONFIG_SECCOMP_FILTER.
doctor-tracing = el derecho de trazar programas
doctor-tracing-mend = Ejecuta el demonio como root, o pon kernel.yama.ptrace_scope = 0 en /etc/sysctl.d.
doctor-namespaces = espacios de nombres para los huéspedes
doctor-namespaces-mend = Ejecuta el demonio como root, o deja que los usuarios hagan espacios de nombres de usuario.
doctor-scheduler = un planificador que deja correr a todo el que está listo
doctor-scheduler-mend = Este núcleo puede hacer esperar segundos a un nodo mientras hay programas ocupados, y por eso pueden perderse procesos: instala 6.18.45
    o más nuevo, o pon kernel.sched_autogroup_enabled = 0 en /etc/sysctl.d.
doctor-hpc = el árbol /hpc
doctor-hpc-mend = Todo lo demás funciona sin él. Ejecuta el demonio como root, donde haya /dev/fuse (modprobe fuse).
doctor-kernel = el código del propio núcleo en los programas; donde los nodos muestran el mismo, los relojes se leen fuera de casa tan rápido como en casa
doctor-kernel-mend = El núcleo no muestra ninguno; no se pueden mover programas desde esta máquina ni hacia ella.
doctor-config = la configuración de un nodo
doctor-config-mend = `minka cluster join` hace una; ponla donde se la busca, o nómbrala con --config.
doctor-keys = las claves del nodo
doctor-keys-mend = `minka cluster join` o `add` las hace; van en el directorio que nombra la configuración, con modo 600.
doctor-certificate = el certificado del nodo, de la autoridad del clúster
doctor-certificate-mend = Es demasiado viejo, o la autoridad ya es otra: `minka cluster join`, como en una máquina nueva.
doctor-former-certificate = el certificado del nodo, de la autoridad del clúster: otra ocupa su lugar
doctor-former-certificate-mend = La autoridad nueva lo da por sí sola; si no llega a este nodo: minka cluster rotate
doctor-address = la dirección en que escucha el nodo
doctor-address-mend = Debe ser una de esta misma máquina: mira `ip address`.
doctor-daemon = el demonio del nodo
doctor-daemon-mend = Arráncalo, como root: minka node serve --config /etc/minka/node.toml
doctor-peers = los otros nodos
doctor-peers-mend = Estos no responden. ¿Están encendidos, corren sus demonios, cierra el puerto un cortafuegos?

## minka token

token-once = esta es la ficha; no se guarda y no se puede mostrar otra vez
token-name = NOMBRE
token-role = PAPEL

## minka cluster

cluster-made = { $directory } es el directorio de un clúster nuevo: guárdalo bien
    {"  "}ahora: `minka cluster serve`, y `minka cluster token` una vez por cada máquina
    {"  "}(o `minka cluster add NOMBRE DIRECCIÓN`, para copiarlo todo a mano)
cluster-token = para una máquina, dentro de { $minutes } minutos: ponla allí en MINKA_TOKEN, y `minka cluster join DIRECCIÓN`
cluster-serving = las máquinas pueden unirse en { $address }
cluster-joined = esta máquina ya es el nodo { $name }; todo lo que necesita está en { $directory }
    {"  "}como root: minka install { $directory }
cluster-rotated = { $name } tiene una clave nueva y un certificado nuevo; su demonio los toma en unos segundos
cluster-renewed = { $nodes }: tienen certificados de la autoridad nueva
cluster-left-behind = { $nodes }: no lo tienen, y desde ahora se los rechaza; para volver a admitir uno: `minka cluster remove NOMBRE`, y
    {"  "}allí borra /etc/minka/keys, y luego `minka cluster join` y `minka install` como en una máquina nueva
cluster-succeeded = el clúster de { $directory } tiene una autoridad nueva; se rechaza lo que firmó la anterior
    {"  "}quien pregunta a los nodos por HTTPS necesita el ca.pem nuevo; guarda bien ese directorio y destruye las copias del viejo
cluster-not-renewed-help = Hasta que tengan el suyo vale también la autoridad anterior. Sigue por sí solo mientras corre `minka cluster serve`,
    o dilo otra vez cuando estén esos nodos. En un nodo al que no se llega desde aquí: minka cluster rotate.
    Si la clave anterior está en malas manos: minka cluster rotate-authority --refuse-old.
cluster-left = { $name } ya no es del clúster; los demás rechazan su certificado
    {"  "}detén su demonio: systemctl disable --now minkad
cluster-added = { $name } ya es un nodo del clúster; todo lo que su máquina necesita está en { $directory }
    {"  "}copia ese directorio a la máquina y allí, como root: minka install { $name }
cluster-removed = { $name } ya no está en la lista de { $directory }; quien conoce la nueva rechaza su certificado
cluster-told = { $nodes }: lo saben
cluster-missed = { $nodes }: ahora no están; se lo dirán los demás

cannot-join-without-token = unirse sin ficha: va en la variable MINKA_TOKEN, o en un archivo (--token-file)
cannot-find-service = encontrar el servicio de la autoridad del clúster: di dónde está (--service DIRECCIÓN)
cannot-understand-token = entender la ficha: empieza por minka1- y es tal como la imprimió `minka cluster token`
cannot-renew-all = renovar los certificados de todos los nodos
cannot-empty = vaciar antes este nodo: { $away } de sus procesos siguen fuera, y { $guests } invitados siguen aquí
cannot-be-two-nodes = instalar { $path }: allí hay otro, así que esta máquina ya es otro nodo
other-node-help = Si ya no es ese (minka cluster leave), borra el directorio de sus claves y dilo otra vez.
cannot-have-name = llamar "{ $name }" a un nodo: esa palabra ya significa otra cosa
cannot-make-cluster = hacer un clúster en { $directory }: ya hay uno
cannot-find-node = encontrar el nodo { $name } en { $path }
cannot-reach-authority = llegar al servicio de la autoridad del clúster en { $address }
cannot-speak-to-authority = hablar con la autoridad del clúster en { $address }
cannot-join = unirse: la autoridad del clúster se niega
cannot-leave = dejar el clúster: la autoridad del clúster se niega
cannot-renew = renovar el certificado: la autoridad del clúster se niega

## minka trace

trace-lost = ... { $lines ->
    [one] falta una línea
   *[other] faltan { $lines } líneas
 }
trace-away = === llegó a { $node }, parado { $freeze } ms
trace-home = === de vuelta en casa, parado { $freeze } ms
trace-home-because = === de vuelta en casa: { $reason }
trace-ended = === terminado
trace-ended-because = === terminado: { $reason }

## minka status, minka nodes

status = nodo { $node }, Minka { $release }, demonio { $pid }, activo desde hace { $minutes } min
    {"  "}escucha en { $listen }
    {"  "}{ $away } de sus procesos fuera, { $guests } huéspedes aquí
pool-single = grupo único
pool-server = servidor de un grupo de servidores
pool-client = cliente de un grupo de servidores: no acepta huéspedes
pool-adaptive = grupo adaptable
pool-open = acepta huéspedes
pool-blocked = no acepta huéspedes, porque se le ha dicho
pool-time = no acepta huéspedes a estas horas
pool-used = no acepta huéspedes, porque alguien usa la máquina
nodes-node = NODO
nodes-address = DIRECCIÓN
nodes-reachable = SE ALCANZA
nodes-load = CARGA
nodes-cpus = CPUS
nodes-speed = VELOCIDAD
nodes-memory = MEMORIA (MiB)
nodes-available = DISPONIBLE
nodes-devices = ACELERADORES LIBRES
nodes-drained = { $devices } ({ $count } sin trabajo)
nodes-guests = NUESTROS ALLÍ
nodes-this = este nodo
nodes-yes = sí
nodes-no = no

## La línea de órdenes

heading-usage = Uso:
heading-commands = Órdenes:
heading-arguments = Argumentos:
heading-options = Opciones:
word-options = {"["}OPCIONES]
word-default = {"["}normalmente:
word-values = {"["}valores posibles:
word-command = ORDEN
usage-value = el valor «{ $value }» no sirve para { $argument }
usage-unknown = no existe el argumento { $argument }
usage-command = no existe la orden { $command }
usage-missing = falta: { $argument }
usage-no-command = falta una orden
usage-conflict = { $argument } no casa con los demás argumentos
usage-other = la línea de órdenes no se entiende
usage-more = `minka --help` cuenta más.

## minka lab

lab-up = el laboratorio { $name } está en marcha: { $nodes }
lab-up-run = minka lab exec { $option }{ $node } -- ORDEN
lab-up-run-means = ejecuta un programa en un nodo
lab-up-ps = minka lab exec { $option }{ $node } -- minka ps
lab-up-ps-means = pregunta a un nodo dónde están sus procesos
lab-up-status = minka lab status
lab-up-status-means = muestra cómo están los nodos
lab-up-down = minka lab down { $option }
lab-up-down-means = le pone fin
lab-down = el laboratorio { $name } ya no existe
lab-none = no hay ningún laboratorio: `minka lab up` crea uno
lab-not-running = no hay ningún laboratorio en marcha en { $directory }
lab-not-running-help = ayuda: `minka lab up` crea uno, `minka lab status` los enumera
lab-no-node-help = ayuda: `minka lab status` los enumera
lab-lab = LABORATORIO
lab-node = NODO
lab-address = DIRECCIÓN
lab-network = RED
lab-daemon = DEMONIO
lab-connected = conectado
lab-cut = aislado
lab-dead = muerto
lab-crashed = caído
lab-daemon-starting = arrancando
lab-daemon-running = en marcha, PID { $pid }
lab-daemon-ended = terminó con { $status }
lab-daemon-killed = terminado por la fuerza
shake-moves = { $moves ->
    [one] un viaje
   *[other] { $moves } viajes
 } de { $processes ->
    [one] un proceso
   *[other] { $processes } procesos
 } ({ $arrivals }); parados { $median } ms de mediana, { $max } ms como mucho
shake-none = nada se ha movido
shake-refused = rechazado { $count ->
    [one] una vez
   *[other] { $count } veces
 }: { $reason }

## minka lab demo

demo-alone = Primero se calculan los resultados correctos, aquí y sin moverse: { $programs } programas
demo-lab =
    Tres nodos están en marcha y se conocen ({ $time } ms). Los mismos programas arrancan ahora en node1, que tiene medio
    procesador para todos. Nadie los mueve: lo hacen los nodos. { $late } no acepta huéspedes todavía.
demo-unlimited = Este sistema no deja limitar aquí los procesadores: los nodos comparten dos, y creen tener medio cada uno.
demo-program = PROGRAMA
demo-programs = PROGRAMAS
demo-computes = CALCULA
demo-node = NODO
demo-load = CARGA
demo-closed = (no acepta huéspedes)
demo-moves = VIAJES
demo-freeze = PARADO (ms)
demo-output = RESULTADO
demo-primes = cuántos primos hay por debajo de { $figure }
demo-gzip = { $figure } líneas, comprimidas
demo-sort = { $figure } líneas, ordenadas
demo-sha256sum = el SHA-256 de { $figure } MiB
demo-running = en marcha
demo-right = correcto
demo-wrong = ERRÓNEO
demo-failed = FALLÓ con { $status }
demo-moved = { $program }: { $from } → { $to }, parado { $freeze } ms
demo-opens = { $node } acepta huéspedes ahora
demo-closes = { $node } lo quiere su dueño: los huéspedes vuelven a casa
demo-failed-because = { $program } ha fallado: { $reason }
demo-by-itself = por sí mismo
demo-moves-seen = Viajes vistos: { $out } de casa a un anfitrión, { $on } de anfitrión a anfitrión, { $home } de un anfitrión a casa.
demo-good = Los { $programs } programas fueron a donde había sitio mientras se ejecutaban, y todos sus resultados son correctos.
demo-unmoved = Los { $programs } resultados son correctos, pero no se han visto viajes de todas las clases.
demo-bad = No todos los { $programs } programas han acertado.

## minka bench

bench-figure = CIFRA
bench-measured = MEDIDO
bench-must = PROMETIDO
bench-aim = META
bench-good = cumplido
bench-bad = NO CUMPLIDO
