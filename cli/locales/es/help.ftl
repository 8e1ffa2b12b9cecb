help = Haz que las máquinas Linux que ya tienes trabajen como un solo ordenador
help-after =
    Código de salida: 0 éxito, 1 fallo, 2 uso erróneo, 3 sin permiso, 4 no existe el proceso o el nodo,
    5 rechazado: el proceso no puede moverse; `run`, `lab run` y `lab exec` salen con el código del
    programa que ejecutan (128 y el número de la señal si lo terminó una señal).

    Entorno: MINKA_DIR directorio del socket de control del nodo (normalmente /run/minka), MINKA_LOG
    cuánto registra el demonio (error, warn, info, debug, trace), NO_COLOR sin colores.
help--json = Escribe JSON, para que lo lean otros programas
help--help = Muestra esta ayuda
help--version = Muestra la versión

help-run = Ejecuta una orden en otro nodo: conserva su terminal, su directorio y su entorno
help-run--on = Nodo en que se ejecuta: un nombre, o `best` (el mejor; lo normal)
help-run--strict = Falla, en lugar de ejecutarla aquí, si no se la puede colocar
help-run--command = La orden y sus argumentos

help-migrate = Mueve un proceso en marcha a un nodo, y de vuelta a casa
help-migrate--pid = El proceso
help-migrate--to = Adónde: el nombre de un nodo, `home` (casa) o `best` (el mejor)

help-ps = Enumera los procesos que se han movido, los huéspedes y los que terminaron fuera
help-ps--all = Enumera también los procesos que nunca se han movido, y qué se lo impide

help-trace = Muestra lo que un proceso que está fuera pide a su casa, mientras se ejecuta
help-trace--pid = El proceso

help-nodes = Enumera los nodos del clúster
help-status = Muestra qué es y qué hace este nodo

help-node = Sirve como nodo del clúster
help-node-serve = Ejecuta el demonio del nodo hasta que se le ponga fin
help-node-serve--config = La configuración del nodo, node.toml

help-completions = Escribe las reglas de compleción de un intérprete de órdenes
help-completions--shell = El intérprete
help-man = Escribe la página del manual
