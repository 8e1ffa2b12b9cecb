## Errores: una primera línea, y ayuda

error-failed = no se pudo: { $operation }
error-because = motivo: { $reason }
error-connect = ningún demonio de nodo responde en { $path }
error-connect-help = ayuda: inicie uno con `minka node serve --config FICHERO`, o indique su directorio en MINKA_DIR
error-not-permitted = el proceso { $pid } es de otro usuario
error-no-process = no existe el proceso { $pid }
error-no-node = no existe el nodo { $node }
error-no-node-help = ayuda: `minka nodes` los enumera
error-no-best = no se alcanza ningún otro nodo
error-cannot-move = el proceso { $pid } no puede moverse
error-not-moved = el proceso { $pid } no se ha movido y está en { $node }
error-busy = el proceso { $pid } ya se está moviendo
error-timed-out = el proceso { $pid } no se ha movido en { $seconds } s
error-too-many-clients = el demonio del nodo tiene demasiados clientes
error-too-many-processes = el demonio del nodo ya cuida de { $limit } procesos
error-ending = el demonio del nodo está terminando
error-version = el demonio del nodo es de otra versión que este programa

## minka migrate

migrate-done = el proceso { $pid } está ahora en { $node }; estuvo parado { $freeze } ms
migrate-already = el proceso { $pid } está en { $node }

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
    escucha en { $listen }
    { $away } de sus procesos fuera, { $guests } huéspedes aquí
nodes-node = NODO
nodes-address = DIRECCIÓN
nodes-reachable = SE ALCANZA
nodes-guests = NUESTROS ALLÍ
nodes-this = este nodo
nodes-yes = sí
nodes-no = no

## La línea de órdenes

heading-usage = Uso:
heading-commands = Órdenes
heading-arguments = Argumentos
heading-options = Opciones
usage-value = el valor «{ $value }» no sirve para { $argument }
usage-unknown = no existe el argumento { $argument }
usage-command = no existe la orden { $command }
usage-missing = falta: { $argument }
usage-no-command = falta una orden
usage-conflict = { $argument } no casa con los demás argumentos
usage-other = la línea de órdenes no se entiende
usage-more = `minka --help` cuenta más.
