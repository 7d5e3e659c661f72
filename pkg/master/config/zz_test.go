package config
import ("testing";"fmt")
func TestZZ(t *testing.T){ c,err:=Load("/tmp/t.yaml",[]string{"MASTERD_ROLLOUT_BAKE=10s","HOME=/root","MASTERD_DRAIN_TIMEOT=1"}); if err!=nil{t.Fatal(err)}; fmt.Println(Effective(c), c.Warnings()); d,err:=Load("/tmp/t.yaml",nil); fmt.Println(err,Diff(c,d)) }
