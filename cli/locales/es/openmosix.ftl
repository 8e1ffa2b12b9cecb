## Las herramientas de openMosix

mosctl-unknown = no se sabe nada de él
mosctl-up = en marcha
mosctl-down = caído
mosctl-stays = sus procesos se quedan
mosctl-moves = sus procesos pueden irse
mosctl-blocked = no acepta huéspedes
mosctl-open = acepta huéspedes

help-mosctl = Pregunta a un nodo y lo dirige, como el mosctl de openMosix
help-mosctl--verb = Qué: stay impide que los procesos se vayan por sí mismos y block que vengan huéspedes, nostay y noblock acaban con eso, expel manda los huéspedes a casa, bring trae los propios; los demás preguntan
help-mosctl--node = De qué nodo: su número, nombre o dirección; el número para setspeed
help-mosrun = Ejecuta una orden donde calcula más deprisa, o donde se diga, como el mosrun de openMosix
help-mosrun--home = La ejecuta aquí (con el nombre mosrun también -h)
help-mosrun--on = La ejecuta en este nodo: número, nombre o dirección (con el nombre mosrun también -NÚMERO)
help-mosrun--jobs = La ejecuta en uno cualquiera de estos nodos, como 1-3,7 (con el nombre mosrun también -j1-3,7)
help-mosrun--anyway = La ejecuta aquí si allí no se puede
help-mosrun--lock = Ella y sus descendientes se quedan donde empiezan
help-mosrun--unlock = Se pueden mover aunque su padre no se pueda
help-mosrun--command = La orden y sus argumentos
help-showmap = Muestra los nodos y sus números, como el showmap de openMosix
