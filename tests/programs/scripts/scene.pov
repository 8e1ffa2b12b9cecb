#version 3.7;
global_settings { assumed_gamma 1 }
camera { location <0, 2, -6> look_at 0 }
light_source { <5, 10, -8> rgb 1 }
plane { y, -1 pigment { checker rgb 1 rgb 0.2 } }
#declare Seed = seed(7);
#local Ball = 0;
#while (Ball < 60)
    sphere {
        <rand(Seed) * 6 - 3, rand(Seed) * 2 - 1, rand(Seed) * 4>, 0.2 + rand(Seed) * 0.2
        pigment { rgb <rand(Seed), rand(Seed), rand(Seed)> }
        finish { reflection 0.3 phong 1 }
    }
    #local Ball = Ball + 1;
#end
