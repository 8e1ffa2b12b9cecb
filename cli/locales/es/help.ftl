help = Haz que las máquinas Linux que ya tienes trabajen como un solo ordenador
help-after =
    Código de salida: 0 éxito, 1 fallo, 2 uso erróneo, 3 sin permiso, 4 no existe el proceso o el nodo,
    5 rechazado: el proceso no puede moverse; `run` se convierte en el programa, y `lab run` y
    `lab exec` salen con el código del que ejecutan (128 y el número de la señal, si lo terminó una).

    Entorno: MINKA_DIR directorio del socket de control del nodo (normalmente /run/minka), MINKA_LOG
    cuánto registra el demonio (error, warn, info, debug, trace), NO_COLOR sin colores.
help--json = Escribe JSON, para que lo lean otros programas
help--help = Muestra esta ayuda
help--version = Muestra la versión

help-run = Ejecuta una orden en otro nodo: conserva su terminal, su directorio y su entorno
help-run--on = Nodo en que se ejecuta: un nombre, o `best` (el mejor; lo normal)
help-run--cpus_like = Que no use más de lo que tienen también los procesadores de estos nodos, para que pueda ir allí; empieza aquí, si --on no dice dónde. Lo respetan la biblioteca C de GNU, OpenSSL, OpenBLAS y MKL. A quien pregunta él mismo al procesador (Java, Go …) nadie se lo dice: en una instrucción desconocida allí vuelve a casa, y no va más a nodos así. Nadie nota lzcnt y tzcnt, que los procesadores viejos toman por otras
help-run--gpu = La ejecuta con un acelerador que nadie usa: en este nodo, o en otro que inicie programas para ti
help-run--strict = Falla, en lugar de ejecutarla aquí, si no se la puede colocar
help-run--command = La orden y sus argumentos

help-migrate = Mueve un proceso en marcha a un nodo, y de vuelta a casa
help-migrate--pid = El proceso
help-migrate--to = Adónde: el nombre, el número o la dirección de un nodo, `home` (casa) o `best` (el mejor)

help-ps = Enumera los procesos que se han movido, los huéspedes y los que terminaron fuera
help-ps--all = Enumera también los procesos que nunca se han movido, y qué se lo impide

help-trace = Muestra lo que un proceso que está fuera pide a su casa, mientras se ejecuta
help-trace--pid = El proceso

help-nodes = Enumera los nodos del clúster
help-status = Muestra qué es y qué hace este nodo

help-install = Haz de esta máquina un nodo: pone en su lugar el programa, el directorio del nodo y un servicio de systemd
help-install--directory = El directorio del nodo, tal como lo hizo `minka cluster join` o `minka cluster add`
help-install--root = Instala bajo este directorio, como para una imagen, y no arranca nada

help-token = Fichas de quienes pueden preguntar a este nodo desde otras máquinas; véase [api] en node.toml
help-token-add = Crea una ficha y la imprime
help-token-add--name = De quién es
help-token-add--role = Qué permite: read (verlo todo), operate (también mover y seguir procesos) o admin
help-token-add--tokens = El archivo de fichas (normalmente /etc/minka/tokens.toml)
help-token-list = Enumera las fichas
help-token-list--tokens = El archivo de fichas (normalmente /etc/minka/tokens.toml)
help-token-remove = Quita una ficha
help-token-remove--name = De quién es
help-token-remove--tokens = El archivo de fichas (normalmente /etc/minka/tokens.toml)

help-doctor = Mira qué le falta a esta máquina para ser un nodo, y di cómo remediarlo
help-doctor--config = La configuración del nodo (normalmente /etc/minka/node.toml, donde lo hay)

help-cluster = Di quién pertenece a un clúster de máquinas reales
help-cluster--dir = El directorio del clúster, que debe guardarse bien: quien lo tiene decide quién pertenece al clúster
help-cluster-init = Empieza un clúster, todavía sin nodos
help-cluster-add = Añade una máquina: hace el directorio que necesita, con sus claves
help-cluster-add--name = Cómo se llama el nodo: minúsculas, cifras, guiones
help-cluster-add--address = La dirección de la máquina tal como la alcanzan las demás, con un puerto si no ha de ser 4660
help-cluster-add--others = Sus direcciones en otras redes, si está en varias
help-cluster-remove = Quita un nodo de la lista de nodos: los demás rechazan su certificado
help-cluster-remove--name = El nodo
help-cluster-token = Crea una ficha con la que una máquina puede unirse, una vez y por un tiempo, y la imprime
help-cluster-token--ttl = Cuánto vale: 90s, 15m, 12h, 2d
help-cluster-serve = Admite máquinas que muestran una ficha, renueva certificados y deja ir a nodos, hasta que se le ponga fin
help-cluster-serve--listen = Dónde escucha
help-cluster-join = Haz de esta máquina un nodo: hace aquí su clave y recibe por una ficha un certificado y la lista de nodos
help-cluster-join--address = Dónde corre `minka cluster serve`: una dirección o un nombre, con un puerto si no es 4662
help-cluster-join--token = La ficha; aquí otros pueden leerla: mejor en la variable MINKA_TOKEN o en un archivo
help-cluster-join--token_file = El archivo de la ficha, o - para la entrada estándar
help-cluster-join--name = Cómo se llama el nodo (normalmente como la máquina)
help-cluster-join--reached_at = Dónde alcanzan los demás a esta máquina (normalmente desde donde pregunta); una vez por cada red en que está, la mejor primero
help-cluster-join--port = El puerto del nodo
help-cluster-join--into = El directorio que se hace para el nodo (normalmente su nombre)
help-cluster-rotate = Hace una clave nueva para este nodo y le consigue un certificado, sin parar nada
help-cluster-rotate--config = La configuración del nodo
help-cluster-rotate--service = Dónde corre `minka cluster serve` (normalmente donde se unió el nodo)
help-cluster-rotate--refuse_old = Que desde ahora todos los nodos rechacen el certificado viejo
help-cluster-rotate-authority = Que una autoridad nueva ocupe el lugar de la del clúster: todos los nodos reciben certificados suyos, y luego se rechaza la vieja
help-cluster-rotate-authority--refuse_old = No esperes a los nodos que no están: tendrán que unirse de nuevo
help-cluster-leave = Manda a todos a casa y quita este nodo de la lista de nodos
help-cluster-leave--config = La configuración del nodo
help-cluster-leave--service = Dónde corre `minka cluster serve` (normalmente donde se unió el nodo)
help-cluster-list = Enumera los nodos

help-node = Sirve como nodo del clúster
help-node-serve = Ejecuta el demonio del nodo hasta que se le ponga fin
help-node-serve--config = La configuración del nodo, node.toml

help-completions = Escribe las reglas de compleción de un intérprete de órdenes
help-completions--shell = El intérprete
help-man = Escribe la página del manual
help-man--dir = Escribe en este directorio las páginas de todas las órdenes

help-lab = Un clúster entero en esta máquina, para probar, enseñar y comprobar
help-lab-demo = Mira cómo el trabajo se reparte por sí mismo entre tres nodos mientras se ejecuta, y sigue siendo correcto (un minuto)
help-lab-up = Pone en marcha un laboratorio que permanece hasta que se le pone fin
help-lab-up--nodes = Cuántos nodos tiene
help-lab-up--name = Su nombre
help-lab-up--cpus = Cuántos procesadores tiene cada nodo, como 0.4, o 0.1,0.2,0.4 para tres nodos
help-lab-up--memory = Cuánta memoria tienen los programas de cada nodo, en MiB, como 256, o una por nodo
help-lab-up--balance = Qué procesos mueven los nodos por sí mismos: todos, los que inició mosrun, o ninguno
help-lab-down = Pone fin a un laboratorio
help-lab-down--name = Su nombre
help-lab-status = Muestra cómo están los nodos de los laboratorios
help-lab-status--name = Solo los de este laboratorio
help-lab-exec = Ejecuta un programa en un nodo de un laboratorio
help-lab-exec--name = El nombre del laboratorio
help-lab-exec--node = El nodo: su nombre o su número
help-lab-exec--command = El programa y sus argumentos
help-lab-run = Ejecuta un programa en el primer nodo de un laboratorio, y lo mueve mientras se ejecuta
help-lab-run--nodes = Cuántos nodos tiene el laboratorio de esta ejecución
help-lab-run--lab = Usa este laboratorio, ya en marcha, en lugar de uno para esta ejecución
help-lab-run--shake = Lo mueve, con sus hijos, al nodo siguiente y a casa por turnos, cada TIME, como 200ms
help-lab-run--report = Escribe en este fichero, como JSON, qué ha sido de los viajes
help-lab-run--command = El programa y sus argumentos

help-bench = Medir en esta máquina las cifras que Minka promete
help-bench--quick = Medir menos: lo justo para ver que funciona, no para fiarse
help-bench-freeze = Cuánto tiempo se detiene un programa al trasladarlo
help-bench-pages = Con qué rapidez le sigue su memoria, frente a TCP a secas
help-bench-touch = Cuánto nota un programa que su memoria aún está en camino
help-bench-syscall = Cuánto cuesta una llamada al sistema reenviada, frente a una ida y vuelta por TCP
help-bench-compute = Cuánto cuesta calcular lejos de casa
help-bench-read = Con qué rapidez lee un programa desde lejos un fichero de su casa, frente a TCP a secas
help-bench-write = Con qué rapidez escribe un programa desde lejos un fichero de su casa, frente a TCP a secas
help-bench-exec = Cuánto cuesta arrancar un programa en otro nodo
help-bench-home = Qué queda de un traslado cuando el programa ha vuelto a casa
help-bench-balance = En cuánto tiempo y qué bien se reparte por sí mismo lo que se inicia en un nodo
help-bench-usher = Qué pasa con procesos que juntos quieren más memoria de la que tiene su nodo
help-bench-idle = Cuánto cuestan los demonios de nodos en los que no pasa nada (unos 40 s)
help-bench-many = En cuánto tiempo 24 nodos en esta máquina están en marcha, se conocen y han repartido lo que se inicia en uno (1 min)
help-bench-farm = Cuánto antes se compila un paquete de código si otros nodos ayudan, sin decírselo, frente a un solo nodo y a distcc (unos 4 min)
help-bench-farm--source = Un directorio con un paquete en C cuyo Makefile usa $(CC); cargo xtask farm crea uno
help-bench-all = Todas ellas (unos 9 min)
