help-sim = Simula clústeres enteros a partir de una semilla, con el mismo código que ejecutan los nodos de verdad
help-sim-balance = Compara cuánto más tardan los trabajos con Minka, MOSIX y PVM
help-sim-balance--scenarios = Cuántos escenarios
help-sim-balance--seed = Con qué empieza el azar: la misma semilla da las mismas cifras
help-sim-balance--memory = La memoria máxima de un trabajo, en tanto por ciento de la de la mayor máquina
help-sim-balance--duration = Durante cuánto tiempo llegan trabajos en cada escenario

sim-balance = { $scenarios } escenarios, { $jobs } trabajos con cada reparto
sim-policy = REPARTO
sim-slowdown = RETARDO MEDIO
sim-against-mosix = FRENTE A MOSIX
sim-pvm = PVM, una máquina tras otra
sim-e-pvm = coste de oportunidad, sabiéndolo todo, sin traslados
sim-mosix = MOSIX
sim-e-mosix = coste de oportunidad, sabiéndolo todo, con traslados
sim-unplaced = Minka, sin colocar los programas al arrancar
sim-ours = Minka

help-sim-gossip = Muestra la edad de lo que unos nodos saben de otros, frente a las fórmulas, con 32 a 10 000 nodos
help-sim-gossip--nodes = Solo un clúster, de tantos nodos
help-sim-gossip--window = Cuántas entradas lleva un datagrama (normalmente 32, y no más que un cuarto del clúster, para lo que valen las fórmulas)
help-sim-gossip--seed = Con qué empieza el azar: la misma semilla da las mismas cifras
help-sim-gossip--loss = Cuántos de los datagramas se pierden
help-sim-gossip--dead = Cuántos de los nodos mueren
help-sim-gossip--slow = Cuántos de los nodos tardan cuatro veces más en todo
help-sim-gossip--partition = Durante cuánto tiempo está la red partida en dos al principio

sim-nodes = NODOS
sim-window = VENTANA
sim-mean-age = EDAD MEDIA (s)
sim-max-age = LA MAYOR (s)
sim-expected = ESPERADA
sim-bytes = BYTES/S

help-sim-cluster = Deja que nodos enteros se encuentren, repartan trabajo y pasen por averías
help-sim-cluster--nodes = Cuántos nodos
help-sim-cluster--seed = Con qué empieza el azar: la misma semilla da las mismas cifras
help-sim-cluster--loss = Cuántos de los datagramas se pierden
help-sim-cluster--dead = Cuántos de los nodos mueren
help-sim-cluster--slow = Cuántos de los nodos reaccionan con un tercio de segundo de retraso
help-sim-cluster--partition = Durante cuánto tiempo está la red partida en dos

sim-what = QUÉ
sim-figure = CIFRA
sim-never = no en 5 min
sim-join = hasta que todos conocen a todos
sim-rest = lo que envía un nodo, bytes por segundo
sim-spread = hasta que el trabajo está bien repartido
sim-moves = traslados de cada proceso hasta entonces
sim-restless = traslados de cada proceso en el medio minuto siguiente
sim-wrong-downs = nodos dados por caídos sin estarlo
sim-death = hasta que todos saben quién ha muerto
sim-on-dead = procesos que calculaban en nodos que murieron
sim-lost = procesos perdidos en total
sim-heal = hasta que todos conocen a todos tras la partición
