## Las herramientas de openMosix

mosctl-unknown = no se sabe nada de él
mosctl-up = en marcha
mosctl-down = caído
mosctl-stays = sus procesos se quedan
mosctl-moves = sus procesos pueden irse
mosctl-blocked = no acepta huéspedes
mosctl-open = acepta huéspedes
mosctl-overheads = mover un proceso cuesta { $move } ms, en un segundo le siguen { $memory } MiB de su memoria, y una llamada reenviada tarda { $call } µs más que una en casa
mosctl-measured = Estas cifras están medidas.
mosctl-assumed = Estas cifras se suponen, no están medidas.

help-mosctl = Pregunta a un nodo y lo dirige, como el mosctl de openMosix
help-mosctl--verb = Qué: stay impide que los procesos se vayan por sí mismos y block que vengan huéspedes, nostay y noblock acaban con eso, expel manda los huéspedes a casa, bring trae los propios, setspeed, setyard y setdecay fijan cifras; los demás verbos solo hacen preguntas
help-mosctl--node = De qué nodo: su número, nombre o dirección; la velocidad para setspeed; para setyard una velocidad, un nodo, this o PIII/1GHz; el intervalo en segundos para setdecay
help-mosctl--parts = Para setdecay: lo que se conserva de mil en cada intervalo, despacio y deprisa (normalmente 975 y 926)
help-mosrun = Ejecuta una orden donde calcula más deprisa, o donde se diga, como el mosrun de openMosix
help-mosrun--home = La ejecuta aquí (con el nombre mosrun también -h)
help-mosrun--on = La ejecuta en este nodo: número, nombre o dirección (con el nombre mosrun también -NÚMERO)
help-mosrun--jobs = La ejecuta en uno cualquiera de estos nodos, como 1-3,7 (con el nombre mosrun también -j1-3,7)
help-mosrun--anyway = La ejecuta aquí si allí no se puede
help-mosrun--lock = Ella y sus descendientes se quedan donde empiezan
help-mosrun--unlock = Se pueden mover aunque su padre no se pueda
help-mosrun--keep = Se pueden mover si su padre se puede (es lo que vale de todos modos)
help-mosrun--job = Qué hace sobre todo: cpu si calcula, y entonces sus llamadas no la atraen a casa; io si lee y escribe, y entonces la atraen desde el principio (con el nombre mosrun también -c, -i)
help-mosrun--decay = Con qué rapidez se olvida lo que se sabe de ella y sus descendientes (con el nombre mosrun también -s, -f, -n)
help-mosrun--interval = Cada cuántos segundos se olvida una parte de lo que se sabe de ella
help-mosrun--kept = Cuánto se conserva entonces, de mil
help-mosrun--zero = Los argumentos de la orden empiezan por el argumento 0, que si no es su propio nombre
help-mosrun--command = La orden y sus argumentos
help-showmap = Muestra los nodos y sus números, como el showmap de openMosix
help-mon = Dibuja lo que hacen todos los nodos, de nuevo cada segundo, como el mosmon de openMosix
help-mon--show = Qué: su carga, la misma en escala logarítmica, su velocidad, la memoria en uso según cuenta para los procesos o según la tiene Linux, o el tiempo de procesador en uso (con el nombre mosmon también -l, -L, -s, -m, -r, -u)
help-mon--columns = Cómo van sus números: uno junto a otro, con las cifras una bajo otra, sin huecos, o según el sitio (con el nombre mosmon también -w, -v, -V, -a)
help-mon--dead = También los nodos que no están en marcha (con el nombre mosmon también -d)
help-mon--total = También cuántos están en marcha (con el nombre mosmon también -t)
help-mon--once = Lo dibuja una vez y acaba

mon-load = carga (1.00: una tarea por procesador estándar)
mon-log-load = carga, en escala logarítmica (1.00: una tarea por procesador estándar)
mon-speed = velocidad de todos los procesadores (10000: un procesador estándar)
mon-memory = memoria en MiB (#: en uso, +: disponible)
mon-raw-memory = memoria en MiB (#: en uso, +: libre, según Linux)
mon-use = tiempo de procesador en uso, en tanto por ciento
mon-foot = h: ayuda   q: fin
mon-total = { $nodes } nodos con { $cpus } procesadores en marcha
mon-help =
    l, L    carga, y en escala logarítmica
    s       velocidad de todos los procesadores
    m, r    memoria según cuenta para los procesos, y según la tiene Linux
    u       tiempo de procesador en uso
    w       números uno junto a otro
    v, V    cifras una bajo otra, y sin huecos
    a       según el sitio
    d       también los nodos que no están en marcha (x)
    t       cuántos están en marcha
    ← →     los nodos que no caben
    Enter   mirar ahora
    h       esta página, y de vuelta
    q       el fin
    ?       un nodo que no ha contado nada de sí

help-mtop = Muestra los procesos que usan el procesador y dónde calculan, como el mtop de openMosix; de lo que uno usa en otro nodo aquí no se sabe nada
help-mtop--once = Los muestra una vez y acaba
help-omdiscd = Encuentra a los otros nodos por multidifusión, sin sus direcciones, y se lo dice al demonio de este nodo
help-omdiscd--interfaces = En qué red, hasta seis; sin esto, la de la ruta por defecto
help-omdiscd--nodaemon = Se queda en primer plano y escribe lo que encuentra
help-omdiscd--multicast_ttl = Cuántos encaminadores puede pasar un anuncio
help-omdiscd--config = La configuración del nodo
help-setpe = Escribe, comprueba o compara el mapa de openMosix de un clúster
help-setpe--read = Escribe el mapa del clúster en marcha
help-setpe--check = Solo dice si un mapa se entiende
help-setpe--write = Busca los nodos del clúster donde un mapa dice que están (para root), y dice qué no coincide a pesar de ello; una máquina solo llega a ser nodo con un certificado (minka cluster add)
help-setpe--off = Ya no toma parte: los huéspedes se van a casa, los procesos propios vuelven y se quedan (con el nombre setpe también -off)
help-setpe--file = El mapa, o - (normalmente el primero de /etc/openmosix.map, /etc/mosix.map y /etc/hpc.map)
help-tune = Mide la velocidad de esta máquina
help-tune--set = Que el nodo use lo medido

mtop-user = USUARIO
mtop-cpu = CPU %
mtop-foot = q: fin
setpe-sound = un mapa de { $nodes } nodos
omdiscd-heard = { $node } está en { $address }
setpe-other = { $path } no es el mapa del clúster en marcha
setpe-unknown = el número { $number }, { $address }, no es ninguno de sus nodos
setpe-missing = el número { $number }, { $address }, no está en el mapa
setpe-other-help = Una máquina se hace nodo con minka cluster add y minka install; los números se dicen en [ids] de node.toml.
tune-measured = la velocidad de esta máquina es { $speed }
tune-set = la velocidad de esta máquina es { $speed }, y el nodo ya usa esa
tune-used = el nodo usa { $speed }
